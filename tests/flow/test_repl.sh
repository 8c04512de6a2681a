#!/bin/bash
# The prompt on a pseudo terminal: editing, completion, history, more lines, Ctrl-C, Ctrl-D. TAP.
set -u
if ! command -v python3 >/dev/null || ! ldconfig -p 2>/dev/null | grep -q libedit.so.2; then
    echo "ok 1 # SKIP python3 and libedit are needed"
    echo 1..1
    exit 0
fi
home=$(mktemp -d) || exit 1
trap 'rm -rf "$home"' EXIT
python3 - "${EV_CAGE:-build/ev-cage}" "$home" <<'PY'
import os, pty, select, signal, stat, sys, time

exe, home = sys.argv[1:3]
count = failed = 0

def check(ok, name):
    global count, failed
    count += 1
    failed += not ok
    print(("ok" if ok else "not ok"), count, "-", name, flush=True)

class Terminal:
    def __init__(self, *argv):
        self.out, self.at = b"", 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(HOME=home, TERM="xterm", NO_COLOR="1")
            os.environ.pop("XDG_STATE_HOME", None)
            os.execv(exe, [exe, *argv])

    def read(self):
        if not select.select([self.fd], [], [], 0.1)[0]:
            return
        try:
            self.out += os.read(self.fd, 4096)
        except OSError:
            pass

    def expect(self, text, name, seconds=20):
        end = time.time() + seconds
        while time.time() < end:
            i = self.out.find(text, self.at)
            if i >= 0:
                self.at = i + len(text)
                return check(True, name)
            self.read()
        check(False, name)
        print("# waited for %r, got %r" % (text, self.out[self.at:]))

    def send(self, text):
        os.write(self.fd, text)

    def end(self, want, name):
        end = time.time() + 20
        while time.time() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return check(os.waitstatus_to_exitcode(status) == want, name)
            self.read()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        check(False, name)

t = Terminal("repl")
t.expect(b"ev> ", "a prompt")
t.send(b"1+41\r")
t.expect(b"42\r\n", "an expression")
t.expect(b"ev> ", "the prompt again")
t.send(b"ev.fs.rea\t\t")
t.expect(b"realpath", "two tabs list what fits")
t.send(b"dl\t")
t.expect(b"ink", "one tab completes")
t.send(b"\x15zz = 5\r")
t.expect(b"ev> ", "a name is made")
t.send(b"\x1b[A\x08\x08\x08\x08+1\r")
t.expect(b"6\r\n", "the line before is edited")
t.send(b"for i = 1, 2 do\r")
t.expect(b"  > ", "an unfinished statement goes on")
t.send(b"print(i * 100)\rend\r")
t.expect(b"200\r\n", "and is run when it is finished")
t.expect(b"ev> ", "the prompt after it")
t.send(b"ev.task.sleep(30)\r")
time.sleep(0.3)
t.send(b"\x03")
t.expect(b"interrupted", "Ctrl-C ends what runs")
t.expect(b"ev> ", "and not the prompt")
t.send(b"while true do end\r")
time.sleep(0.3)
t.send(b"\x03")
t.expect(b"interrupted", "also what computes")
t.expect(b"ev> ", "the prompt lives")
t.send(b"half a line\x03")
t.expect(b"ev> ", "Ctrl-C drops the line")
t.send(b"\x04")
t.end(0, "Ctrl-D leaves")

path = home + "/.local/state/ev-cage/repl_history"
check(os.path.exists(path) and stat.S_IMODE(os.stat(path).st_mode) == 0o600, "the history is there, for its owner only")
check(stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700, "so is its folder")

t = Terminal("repl")
t.expect(b"ev> ", "a second session")
t.send(b"\x1b[A\x1b[A\x1b[A\x1b[A")
t.expect(b"100", "knows the lines of the first")
t.send(b"\x15:quit\r")
t.end(0, ":quit leaves")

script = home + "/secret.lua"
with open(script, "w") as f:
    f.write("local s = require('ev.sys').read_secret('key: ') print('len', #s) "
            "print(require('ev.ui').confirm('sure?', false), (require('ev.ui').select('which', { 'a', 'b' })))")
t = Terminal("run", script)
t.expect(b"key: ", "a secret is asked for")
t.send(b"hunter2\r")
t.expect(b"len\t7", "and read")
check(b"hunter2" not in t.out, "without an echo")
t.expect(b"sure? [y/N] ", "a question")
t.send(b"maybe\r")
t.expect(b"sure? [y/N] ", "is asked again when the answer is none")
t.send(b"y\r")
t.expect(b"which [1-2] ", "a choice")
t.send(b"2\r")
t.expect(b"true\t2", "is taken")
t.end(0, "and the script ends")

t = Terminal("run", script)
t.expect(b"key: ", "a secret again")
t.send(b"\x03")
t.end(130, "Ctrl-C at it leaves with 130")
script = home + "/progress.lua"
with open(script, "w") as f:
    f.write("""local n, job = 0, setmetatable({}, { __close = function() end })
function job.ended() n = n + 1 return n > 12 end
function job.progress() return "packing", n, 12 end
function job.wait() return "all of it" end
print(require("ev.ui").progress(job, "build"))""")
t = Terminal("run", script)
t.expect(b"[############............]  50% build: packing", "a bar on a terminal")
t.expect(b"\r\x1b[Kall of it", "that is wiped before the result")
t.end(0, "and the script ends")

t = Terminal("--help")
t.expect(b"Usage: ev-cage", "help on a terminal")
t.end(0, "without a pager")
print("1..%d" % count)
sys.exit(failed > 0)
PY
