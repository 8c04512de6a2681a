-- repl.lua — `ev-cage repl`: a Lua prompt over the library.
return function(ctx) return require("ev.repl").run(ctx.ui) end
