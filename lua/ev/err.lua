-- err.lua — the error object of expected failures: `return nil, err`.
--
-- code is what scripts compare ("EDENY"), reason narrows it ("crc-mismatch"), message is for people,
-- hint is the one line "try: …", exit overrides the code's exit status, cause is what lies beneath.
-- C pushes the same objects: it takes the class from here when the state starts.
local sys = require "ev.c.sys"

local M = {}

local Err = { __name = "ev.err" }
Err.__index = Err
M.class = Err

function Err:__tostring() return self.message end

--- A new error that says what was being done; code, reason, hint and exit stay.
---@param what string
function Err:wrap(what)
  return setmetatable({
    code = self.code, reason = self.reason, hint = self.hint, exit = self.exit, cause = self,
    message = what .. ": " .. self.message, traceback = self.traceback,
  }, Err)
end

--- The exit status a command leaves with.
function Err:exit_code() return self.exit or sys.exit_code(self.code) end

---@param code string
---@param message string
---@param more? {reason?: string, hint?: string, exit?: integer, cause?: table}
function M.new(code, message, more)
  more = more or {}
  return setmetatable({ code = code, message = message, reason = more.reason, hint = more.hint,
    exit = more.exit, cause = more.cause }, Err)
end

--- The same as a failure: `return err.fail("EUSAGE", "no file")`.
function M.fail(code, message, more) return nil, M.new(code, message, more) end

function M.is(v) return getmetatable(v) == Err end

return M
