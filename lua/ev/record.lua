-- record.lua — enclave.Dockerfile and ev-user.Dockerfile: what an image was built from, so that
-- --from-existing builds it again. The user's text with a header of ours; no date, no path.
local fs = require "ev.fs"
local text = require "ev.text"

local M = { NAME = "enclave.Dockerfile", ALIAS = "ev-user.Dockerfile" }

local MARK = "# ev-cage: "

-- Parser directives (# syntax=, # escape=) mean something only before everything else.
local function is_directive(line)
  return line:match("^#%s*%a+%s*=") ~= nil
end

-- The text without a header of ours.
function M.strip(source)
  local out = {}
  for _, line in ipairs(text.lines(source)) do
    if not text.starts(line, MARK) then out[#out + 1] = line end
  end
  return table.concat(out, "\n") .. "\n"
end

---@param build_args? string[] NAME=VALUE; only names are recorded, values may be secret
function M.text(source, build_args)
  local lines, out, i = text.lines(M.strip(source)), {}, 1
  while lines[i] and is_directive(lines[i]) do
    out[#out + 1] = lines[i]
    i = i + 1
  end
  out[#out + 1] = MARK .. "the Dockerfile that enclave.eif was built from. The runtime is not in it: it is"
  out[#out + 1] = MARK .. "ramdisk 1, pinned by [runtime] in cage.toml. Again: ev-cage build --from-existing"
  local names = {}
  for n, pair in ipairs(build_args or {}) do names[n] = pair:match("^[^=]*") end
  if #names > 0 then out[#out + 1] = MARK .. "build arguments: " .. table.concat(names, " ") end
  table.move(lines, i, #lines, #out + 1, out)
  return table.concat(out, "\n") .. "\n"
end

-- Both names, each only when its content changes.
function M.write(dir, source, build_args)
  local content = M.text(source, build_args)
  for _, name in ipairs { M.NAME, M.ALIAS } do
    local path = fs.join(dir, name)
    if fs.read(path, { max = 1 << 21 }) ~= content then
      local ok, e = fs.write(path, content, { mode = 420 })
      if not ok then return nil, e:wrap("recording the Dockerfile") end
    end
  end
  return true
end

return M
