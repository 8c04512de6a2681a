-- log.lua — lines on standard error in the form of core/base/log: "LEVEL area: text".
-- EV_LOG chooses the least important level shown: error, warn, info (default) or debug.
local sys = require "ev.c.sys"

local M = {}

local ORDER = { error = 1, warn = 2, info = 3, debug = 4 }
local threshold = ORDER[(sys.getenv("EV_LOG") or "info"):lower()] or ORDER.info

function M.set_level(level) threshold = assert(ORDER[level], "error, warn, info or debug") end

local function printable(text) return (text:gsub("[%z\1-\31\127]", "?")) end

function M.write(level, area, text, ...)
  if ORDER[level] > threshold then return end
  if select("#", ...) > 0 then text = text:format(...) end
  io.stderr:write(level, " ", area, ": ", printable(text), "\n")
end

function M.error(area, ...) M.write("error", area, ...) end
function M.warn(area, ...) M.write("warn", area, ...) end
function M.info(area, ...) M.write("info", area, ...) end
function M.debug(area, ...) M.write("debug", area, ...) end

return M
