-- Words and bytes of ev.text that no other test looks at: what a terminal gets of a stranger's line.
local text = require "ev.text"
local t = require "tap"

local p = text.printable
t.is(p("plain, tab\tand ünïcödé"), "plain, tab\tand ünïcödé", "an ordinary line stays")
t.is(p("\27[31mred\27[0m"), "\27[31mred\27[0m\27[0m", "colours stay, and end with the line")
t.is(p("\27[8mhidden"), "\27[8mhidden\27[0m", "what hides does so for one line only")
t.is(p("\27]0;title\7x"), "?]0;title?x", "no titles")
t.is(p("\27]52;c;AAAA\27\\"), "?]52;c;AAAA?\\", "no clipboard")
t.is(p("\27[2J\27[31;1mx\27[6n"), "?[2J\27[31;1mx?[6n\27[0m", "no moves and no questions between colours")
t.is(p("\0[31m\0"), "?[31m?", "a NUL does not become an escape")
t.is(p("\194\155" .. "31m\8\127\r"), "?31m???", "nor does CSI in one character; no way back in the line")
for byte = 0, 255 do
  local out = p(string.char(byte))
  if out:find("[\0-\8\10-\31\127]") then t.ok(false, "byte " .. byte) end
end
t.is(p(""), "", "an empty line")
return t.done()
