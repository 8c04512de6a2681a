-- sys.lua — environment, identity, clock and terminal of this process.
local c = require "ev.c.sys"

local M = {
  getenv = c.getenv, setenv = c.setenv, environ = c.environ, hostname = c.hostname, uid = c.uid, pid = c.pid,
  time = c.time, isatty = c.isatty, term_width = c.term_width, version = c.version, kill = c.kill,
  script_dir = c.script_dir, flush = c.flush,
}

--- One line from standard input without its newline; nil at the end.
---@return string|nil, table|nil
function M.read_line()
  local job <close> = c.read_line()
  return job:wait()
end

--- A secret typed at the terminal without echo (from standard input where there is no terminal).
---@param prompt string
---@return string|nil, table|nil
function M.read_secret(prompt)
  c.flush()
  local job <close> = c.read_secret(prompt)
  return job:wait()
end

return M
