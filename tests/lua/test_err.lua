-- The error object: wrapping, exit codes, what C pushes.
local err = require "ev.err"
local fs = require "ev.fs"
local t = require "tap"

local e = err.new("EDENY", "not allowed", { reason = "rule", hint = "ask", exit = 3 })
local w = e:wrap("connecting")
t.is(tostring(w), "connecting: not allowed", "wrap puts what was done before the message")
t.is({ w.code, w.reason, w.hint, w.exit }, { "EDENY", "rule", "ask", 3 }, "code, reason, hint, exit survive")
t.ok(w.cause == e and e.message == "not allowed", "the cause is kept and is not changed")
t.ok(err.is(w) and not err.is({ code = "EDENY" }) and not err.is("EDENY"), "is tells them apart")

t.is(err.new("EVERIFY", "x"):exit_code(), 76, "exit code of a failed attestation")
t.is(err.new("EDENY", "x"):exit_code(), 77, "exit code of a refusal")
t.is(err.new("EUSAGE", "x"):exit_code(), 64, "exit code of wrong usage")
t.is(err.new("ENOENT", "x"):exit_code(), 66, "errno's names have theirs")
t.is(err.new("ENOSPC", "x"):exit_code(), 74, "full disk")
t.is(err.new("WHATEVER", "x"):exit_code(), 70, "an unknown code is an internal error")
t.is(e:exit_code(), 3, "an exit of its own wins")

local value, failure = err.fail("EPARSE", "bad")
t.ok(value == nil and failure.code == "EPARSE", "fail gives nil and the object")

local _, from_c = fs.read("/nonexistent/file")
t.ok(err.is(from_c), "C pushes the same class")
t.is(from_c.code, "ENOENT", "C's code is errno's name")
t.is(from_c:wrap("a"):wrap("b").code, "ENOENT", "and wraps the same way")
local ok, raised = pcall(error, from_c)
t.ok(not ok and raised == from_c, "an error object can be raised")
return t.done()
