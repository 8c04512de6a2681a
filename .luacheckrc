std = "lua54"
max_line_length = 120
codes = true
-- ev.main makes this table for the REPL and for scripts; everything else is `require`d.
read_globals = { "ev" }
