-- complete.lua — completion scripts for bash, zsh and fish from the command table. The scripts hold
-- plain lists, so completing never starts ev-cage.
local cli = require "ev.cli"

local M = {}

-- Every command with its path, depth first, the root included.
local function each_command(spec, fn)
  local function walk(node, path)
    fn(node, path)
    for _, c in ipairs(node.commands or {}) do
      if not c.hidden then
        local deeper = table.move(path, 1, #path, 1, {})
        deeper[#deeper + 1] = c.name
        walk(c, deeper)
      end
    end
  end
  walk(spec, {})
end

local function visible(options)
  local list = {}
  for _, o in ipairs(options or {}) do
    if not o.hidden then list[#list + 1] = o end
  end
  return list
end

-- Options of the command and the global ones.
local function all_options(spec, node)
  local list = visible(node.options)
  if node ~= spec then table.move(visible(spec.options), 1, #spec.options, #list + 1, list) end
  return list
end

local function long_and_short(options)
  local words = {}
  for _, o in ipairs(options) do
    words[#words + 1] = "--" .. o.long
    if o.short then words[#words + 1] = "-" .. o.short end
  end
  return words
end

-- What completes a value: "files", "dirs", a list of words, or "" (nothing to offer).
local function value_kind(form)
  if form.choices then return table.concat(form.choices, " ") end
  if form.complete == "dir" then return "@dirs" end
  if form.complete == "file" then return "@files" end
  return ""
end

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- `help` completes to commands, other commands to what their first word is.
local function word_kind(spec, node)
  if node.commands then return table.concat(cli.command_names(node), " ") end
  local arg = node.args and node.args[1]
  if not arg then return "" end
  if node.name == "help" then return table.concat(cli.command_names(spec), " ") end
  return value_kind(arg)
end

-- --- bash and zsh share these tables -------------------------------------------------------------
-- Names have a prefix: `words`, `path` and `options` are special in zsh.


local function tables(spec, prefix)
  local words, values, paths = {}, {}, {}
  each_command(spec, function(node, path)
    local key = table.concat(path, " ")
    words[#words + 1] = ("        %s) ev_options=%s; ev_words=%s ;;"):format(quote(key),
      quote(table.concat(long_and_short(all_options(spec, node)), " ")), quote(word_kind(spec, node)))
    if #path > 0 then paths[#paths + 1] = quote(key) end
    for _, o in ipairs(all_options(spec, node)) do
      if o.value then
        local names = {}
        for _, s in ipairs(cli.spellings(o)) do names[#names + 1] = quote(key .. " " .. s) end
        values[#values + 1] = ("        %s) ev_kind=%s ;;"):format(table.concat(names, "|"), quote(value_kind(o)))
      end
    end
  end)
  return ([[
%s_path() {         # the longest command that the words so far spell
    local next=$1
    [ -n "$ev_path" ] && next="$ev_path $1"
    case $next in
        %s) ev_path=$next ;;
    esac
}
%s_words() {        # what the command takes
    case $ev_path in
%s
    esac
}
%s_value() {        # what an option's value is; false for a switch
    case "$ev_path $1" in
%s
        *) return 1 ;;
    esac
}
]]):format(prefix, table.concat(paths, "|"), prefix, table.concat(words, "\n"), prefix, table.concat(values, "\n"))
end

local function bash(spec)
  return ("# bash completion of %s\n"):format(spec.name) .. tables(spec, "_ev_cage") .. [=[
_ev_cage() {
    local cur=${COMP_WORDS[COMP_CWORD]} ev_prev= ev_path= ev_options= ev_words= ev_kind= i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            -*) _ev_cage_value "${COMP_WORDS[i]}" && ((i++)) ;;
            *) _ev_cage_path "${COMP_WORDS[i]}" ;;
        esac
    done
    i=$((COMP_CWORD - 1))
    [ "$cur" = = ] && cur= && ((i++))                   # bash splits --builder=b in three words
    [ "$i" -gt 1 ] && [ "${COMP_WORDS[i]}" = = ] && ((i--))
    [ "$i" -gt 0 ] && ev_prev=${COMP_WORDS[i]}
    _ev_cage_words
    if [[ $ev_prev == -* ]] && _ev_cage_value "$ev_prev"; then
        ev_words=$ev_kind
    elif [[ $cur == -* ]]; then
        ev_words=$ev_options
    fi
    case $ev_words in
        @dirs) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
        @files) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        *) mapfile -t COMPREPLY < <(compgen -W "$ev_words" -- "$cur") ;;
    esac
}
complete -F _ev_cage ]=] .. spec.name .. "\n"
end

local function zsh(spec)
  return ("#compdef %s\n"):format(spec.name) .. tables(spec, "_ev_cage") .. [=[
_ev_cage() {
    local cur=${words[CURRENT]} ev_prev= ev_path= ev_options= ev_words= ev_kind= i
    for ((i = 2; i < CURRENT; i++)); do
        case ${words[i]} in
            -*) _ev_cage_value "${words[i]}" && ((i++)) ;;
            *) _ev_cage_path "${words[i]}" ;;
        esac
    done
    ((CURRENT > 2)) && ev_prev=${words[CURRENT-1]}
    _ev_cage_words
    if [[ $ev_prev == -* ]] && _ev_cage_value "$ev_prev"; then
        ev_words=$ev_kind
    elif [[ $cur == -* ]]; then
        ev_words=$ev_options
    fi
    case $ev_words in
        @dirs) _files -/ ;;
        @files) _files ;;
        *) compadd -- ${=ev_words} ;;
    esac
}
if [ "$funcstack[1]" = _ev_cage ]; then
    _ev_cage "$@"
else
    compdef _ev_cage ]=] .. spec.name .. "\nfi\n"
end

-- --- fish --------------------------------------------------------------------------------------

local function fish_condition(path)
  if #path == 0 then return "__fish_use_subcommand" end
  local parts = {}
  for _, name in ipairs(path) do parts[#parts + 1] = "__fish_seen_subcommand_from " .. name end
  return table.concat(parts, "; and ")
end

local function fish_option(spec, o, condition)
  local line = { "complete -c", spec.name }
  if condition then line[#line + 1] = "-n " .. quote(condition) end
  line[#line + 1] = "-l " .. o.long
  if o.short then line[#line + 1] = "-s " .. o.short end
  if o.value then
    local kind = value_kind(o)
    if kind == "@dirs" then
      line[#line + 1] = "-x -a '(__fish_complete_directories)'"
    elseif kind == "@files" then
      line[#line + 1] = "-r -F"
    else
      line[#line + 1] = "-x" .. (kind ~= "" and " -a " .. quote(kind) or "")
    end
  end
  if o.help then line[#line + 1] = "-d " .. quote(o.help) end
  return table.concat(line, " ")
end

local function fish(spec)
  local out = { ("# fish completion of %s"):format(spec.name), ("complete -c %s -f"):format(spec.name) }
  for _, o in ipairs(visible(spec.options)) do out[#out + 1] = fish_option(spec, o) end
  each_command(spec, function(node, path)
    local condition = fish_condition(path)
    local subs = cli.command_names(node)
    local inside = condition
    if #path > 0 and #subs > 0 then
      inside = condition .. "; and not __fish_seen_subcommand_from " .. table.concat(subs, " ")
    end
    for _, c in ipairs(node.commands or {}) do
      if not c.hidden then
        out[#out + 1] = ("complete -c %s -n %s -a %s -d %s"):format(spec.name, quote(inside), c.name,
          quote(c.summary or ""))
      end
    end
    if node == spec then return end
    for _, o in ipairs(visible(node.options)) do out[#out + 1] = fish_option(spec, o, condition) end
    local kind = not node.commands and word_kind(spec, node) or ""
    if kind == "@files" or kind == "@dirs" then
      out[#out + 1] = ("complete -c %s -n %s -F"):format(spec.name, quote(condition))
    elseif kind ~= "" then
      out[#out + 1] = ("complete -c %s -n %s -a %s"):format(spec.name, quote(condition), quote(kind))
    end
  end)
  return table.concat(out, "\n") .. "\n"
end

local shells = { bash = bash, zsh = zsh, fish = fish }

---@param spec table
---@param shell "bash"|"zsh"|"fish"
function M.text(spec, shell) return assert(shells[shell], "bash, zsh or fish")(spec) end

return M
