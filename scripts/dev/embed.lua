-- embed.lua OUT.c FILE... — scripts, library and plugins as text in one C table, sorted by name.
-- Module names: lua/ev/x.lua → "ev.x", scripts/x.lua → "scripts.x", plugins/x.lua → "plugins.x". A file
-- of another kind is a module that returns its text: …/x.c → "ev.text.x".
local out, files = arg[1], {}
for i = 2, #arg do files[#files + 1] = arg[i] end
table.sort(files)

local function module_name(path)
  local other = not path:match("%.lua$") and path:match("([^/]+)%.%w+$")
  if other then return "ev.text." .. other end
  local name = path:gsub("^lua/", ""):gsub("%.lua$", ""):gsub("/", ".")
  return (name:gsub("^(ev%..*)%.init$", "%1"))      -- scripts/init.lua is the verb `init`
end

local function bytes(text)
  local line, lines = {}, {}
  for i = 1, #text do
    line[#line + 1] = tostring(text:byte(i))
    if #line == 24 then lines[#lines + 1] = table.concat(line, ",") .. ","; line = {} end
  end
  lines[#lines + 1] = table.concat(line, ",")
  return table.concat(lines, "\n")
end

local f = assert(io.open(out, "wb"))
f:write('/* Made by scripts/dev/embed.lua. */\n#include "script/embed.h"\n\n')
local entries = {}
for i, path in ipairs(files) do
  local src = assert(io.open(path, "rb"))
  local text = src:read("a")
  src:close()
  if not path:match("%.lua$") then text = ("return %q"):format(text) end
  f:write(("static const unsigned char f%d[] = {\n%s%s};\n"):format(i, bytes(text), #text == 0 and "0" or ""))
  entries[i] = ('    { "%s", "%s", (const char *)f%d, %d },\n'):format(module_name(path), path, i, #text)
end
f:write("\nconst struct ev_embedded ev_embedded[] = {\n" .. table.concat(entries) .. "    { 0, 0, 0, 0 }\n};\n")
f:write(("const unsigned long ev_embedded_count = %d;\n"):format(#files))
f:close()
