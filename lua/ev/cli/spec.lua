-- spec.lua — the command table: data only. Help, completion, parsing and "did you mean" come from it.
--
-- command: name, summary, group, args, options, script, notes, examples, commands (sub-commands)
-- arg:     name, help, default, optional = true, many = true (takes all that follow), rest = true
--          (everything after it belongs to the command and is not parsed: `run`)
-- later = { "name", … }: commands that are to come; naming one says so
-- option:  long, short, value (name shown; without it the option is a switch), default, many = true
--          (collects a list), choices, aliases (further spellings, "-x" means a single dash), complete
--          ("file", "dir"), help, hidden = true. In ctx.opts the key is the long name with - → _.

local config = { long = "config", short = "c", value = "FILE", default = "./cage.toml", complete = "file",
  help = "Path to the cage.toml" }
local dockerfile = { long = "file", short = "f", value = "FILE", complete = "file",
  help = "Path to the Dockerfile (default: the one named in cage.toml, else ./Dockerfile)" }
local signing_cert = { long = "signing-cert", value = "FILE", complete = "file",
  help = "Certificate (PEM) that signs the image; overrides [signing] certPath" }
local private_key = { long = "private-key", value = "FILE", complete = "file",
  help = "Private key (PEM) of that certificate; overrides [signing] keyPath" }
local quiet = { long = "quiet", help = "Less output: no builder output, no progress" }
local root = { long = "root", value = "FILE", complete = "file",
  help = "Trust this root certificate (PEM) instead of AWS's: for development only" }

local function pcr(n, what)
  return { long = "pcr" .. n, value = "HEX", help = ("Expected PCR%d: %s"):format(n, what) }
end

-- What `build` and `dev` share.
local function build_options(extra)
  local list = {
    config, dockerfile,
    { long = "output", short = "o", value = "DIR", default = ".", complete = "dir",
      help = "Folder for enclave.eif and the recorded Dockerfiles" },
    signing_cert, private_key,
    { long = "build-arg", value = "NAME=VALUE", many = true, help = "Build-time argument for the Dockerfile" },
    { long = "from-existing", help = "Build from enclave.Dockerfile, the record of an earlier build" },
    { long = "reproducible", help = "Same inputs, same bytes. Always on; accepted for compatibility" },
    { long = "no-cache", help = "Do not use the builder's layer cache" },
    { long = "builder", value = "NAME", choices = { "docker", "podman", "buildah" },
      help = "Which container builder to use (default: the first one that works)" },
    { long = "image", value = "FILE", complete = "file",
      help = "Use this container image, build none: an OCI layout folder, an OCI or `docker save` archive" },
    { long = "kernel", value = "FILE", complete = "file", help = "Kernel (bzImage) to put into the image" },
    { long = "cmdline", value = "TEXT", help = "Kernel command line" },
    { long = "runtime", value = "FILE", complete = "file", help = "Runtime ramdisk (default: this release's)" },
    { long = "update-runtime", help = "Accept another runtime or kernel than cage.toml pins" },
    { long = "forward-proxy-protocol", help = "Pass PROXY protocol headers on to the app" },
    quiet,
  }
  for _, o in ipairs(extra or {}) do list[#list + 1] = o end
  return list
end

local init = {
  name = "init", group = "Cages", script = "scripts.init",
  summary = "Create a cage: write cage.toml and a signing certificate",
  options = {
    { long = "name", value = "NAME",
      help = "Name of the cage (required): letters, digits and hyphens, it becomes part of a host name" },
    { long = "output", short = "o", value = "DIR", default = "./", complete = "dir",
      help = "Folder for cage.toml" },
    { long = "file", short = "f", value = "FILE", complete = "file",
      help = "Dockerfile of the cage (default: ./Dockerfile beside cage.toml)" },
    { long = "debug", help = "Debug mode: console output, measurements of zero, no attestation" },
    { long = "egress", help = "Allow network egress, by default to port 443" },
    { long = "egress-ports", value = "LIST", help = "Comma-separated ports for egress (implies --egress)" },
    { long = "egress-destinations", value = "LIST",
      help = "Comma-separated domains for egress, *.example.com for all below one (implies --egress; default: *)" },
    { long = "healthcheck", value = "PATH", help = "Path of the app that is asked once a second, e.g. /health" },
    { long = "trusted-headers", value = "LIST", aliases = { "trusted_headers" },
      help = "Comma-separated headers that are not obfuscated in transaction logs" },
    { long = "desired-replicas", value = "N", aliases = { "desired_replicas" }, help = "Replicas to run" },
    { long = "signing-cert", value = "FILE", complete = "file",
      help = "Signing certificate to use (needs --private-key); without both a pair is made" },
    { long = "private-key", value = "FILE", complete = "file", help = "Signing key to use (needs --signing-cert)" },
    { long = "generate-signing", aliases = { "-generate-signing" },
      help = "Make a signing certificate even though one is named" },
    { long = "disable-tls-termination", help = "The app terminates TLS itself; no API key is asked for" },
    { long = "disable-api-key-auth", help = "Do not ask for an API key" },
    { long = "disable-trx-logging", help = "No transaction logs" },
    { long = "forward-proxy-protocol", help = "Pass PROXY protocol headers on to the app" },
    { long = "self-destruct", help = "The cage ends after six hours (needs a platform)" },
    { long = "force", help = "Replace an existing cage.toml" },
  },
  notes = "Works offline with a development identity, made on first use in the state folder.",
  examples = { "ev-cage init -f ./Dockerfile --name hello-cage --healthcheck /health" },
}

local cert = {
  name = "cert", group = "Cages", summary = "Signing certificates", later = { "upload", "lock" },
  commands = {
    { name = "new", script = "scripts.cert", summary = "Make a signing certificate and its private key",
      options = {
        { long = "output", short = "o", value = "DIR", default = ".", complete = "dir",
          help = "Folder for cert.pem and key.pem" },
        { long = "subj", value = "DN", help = "Distinguished name with CN, C, ST, L, O and OU, "
          .. "e.g. /CN=EV/C=IE/ST=LEI/L=DUB/O=Evervault/OU=Eng" },
        { long = "expiry-days", value = "DAYS", help = "Days of validity (default 364)" },
        { long = "force", help = "Replace existing files" },
      },
      examples = { "ev-cage cert new -o ~/.ev/cages" } },
  },
}

local build = {
  name = "build", group = "Cages", script = "scripts.build",
  summary = "Build a signed, measured enclave image (EIF) from a Dockerfile",
  args = { { name = "CONTEXT_PATH", default = ".", complete = "dir", help = "Folder of the build context" } },
  options = build_options(),
  notes = "Writes enclave.eif, enclave.Dockerfile and ev-user.Dockerfile, and the PCRs into cage.toml. "
    .. "Times come from SOURCE_DATE_EPOCH, else they are zero. The build context leaves out cage.toml, the signing "
    .. "key and what build writes, so COPY . . is safe and repeatable.",
  examples = { "ev-cage build --output .", "ev-cage build --image app.tar --kernel bzImage" },
}

local describe = {
  name = "describe", group = "Cages", script = "scripts.describe",
  summary = "Show the measurements, signature and metadata of an enclave image",
  args = { { name = "EIF_PATH", default = "./enclave.eif", complete = "file", help = "The image" } },
  options = {
    quiet,
    { long = "check-layout", help = "Also check that ramdisk 2 holds nothing but rootfs/ and cage/" },
  },
  examples = { "ev-cage describe enclave.eif --json" },
}

local pcr_command = {
  name = "pcr", group = "Cages", script = "scripts.pcr",
  summary = "Compute the register value of a file or of a signing certificate",
  options = {
    { long = "input", value = "FILE", complete = "file", help = "Measure this file" },
    { long = "signing-certificate", value = "FILE", complete = "file", aliases = { "signing-cert" },
      help = "PCR8 of this certificate (PEM)" },
  },
  examples = { "ev-cage pcr --signing-certificate cert.pem" },
}

local attest = {
  name = "attest", group = "Cages", script = "scripts.attest",
  summary = "Verify a running cage, a document or a certificate against expected measurements",
  args = { { name = "TARGET", optional = true,
    help = "URL or HOST[:PORT] of the cage (default: the host of cage.toml)" } },
  options = {
    config,
    { long = "eif-path", value = "FILE", complete = "file", help = "Expect the measurements of this image" },
    pcr(0, "the whole image"), pcr(1, "kernel and runtime"), pcr(2, "app and policy"),
    pcr(3, "role of the parent instance"), pcr(4, "id of the parent instance"), pcr(8, "signing certificate"),
    { long = "pcr", value = "N=HEX", many = true, help = "Expected value of any PCR" },
    { long = "document", value = "FILE", complete = "file",
      help = "Verify this document (CBOR or base64; - reads stdin)" },
    { long = "certificate", value = "FILE", complete = "file",
      help = "Verify the document inside this TLS certificate (PEM or DER), bound to its key" },
    { long = "at-time", value = "TIME", help = "Verify as of this moment, e.g. 2026-11-24T12:00:00Z (default: now)" },
    root,
    { long = "any-measurement", help = "Check everything but the measurements" },
    { long = "allow-debug", help = "Accept a debug enclave: its measurements are zero and prove nothing" },
    { long = "nonce", value = "HEX", help = "The document must carry this nonce" },
    { long = "user-data", value = "HEX", help = "The document must carry these user data" },
    { long = "connect", value = "ADDRESS", help = "Connect here instead, e.g. 127.0.0.1:8443; the name stays" },
    { long = "get", value = "PATH",
      help = "Then GET this path on the verified connection and print the body; EV_API_KEY is sent as api-key" },
    { long = "timeout", value = "SECONDS", default = "15", help = "Deadline for the connection and for each answer" },
  },
  notes = "Exit 0 only for a document that passed; 76 when attestation fails, 69 when the cage cannot be reached or "
    .. "--get fails. Nothing is sent to a cage that fails.",
  examples = { "ev-cage attest", "ev-cage attest --get /hello",
    "ev-cage attest hello.app-12ab.cages.example.com --pcr0 8576aa75...",
    "ev-cage attest --document doc.cbor --any-measurement --at-time 2023-01-18T14:00:00Z" },
}

local dev = {
  name = "dev", group = "Development", script = "scripts.dev",
  summary = "Build the cage and run it here, in the simulator or really booted in QEMU",
  args = { { name = "CONTEXT_PATH", default = ".", complete = "dir", help = "Folder of the build context" } },
  options = build_options {
    { long = "port", short = "p", value = "PORT", help = "Port of 127.0.0.1 (default 8443; 9999 with --crypto-api)" },
    { long = "eif-path", value = "FILE", complete = "file", help = "Run this image, build none" },
    { long = "no-build", help = "Run the enclave.eif that is there" },
    { long = "exec", value = "COMMAND", help = "Once the cage is healthy run this shell command with EV_CAGE_URL, "
      .. "EV_CAGE_ADDR, EV_CAGE_ROOT and EV_API_KEY set, then stop with its exit code" },
    { long = "timeout", value = "SECONDS", default = "90", help = "Deadline until the cage is healthy" },
    { long = "launcher", value = "NAME", default = "sim", choices = { "sim", "qemu", "auto" },
      help = "sim: in namespaces of this kernel; qemu: the image's own kernel boots; auto: qemu where one is found" },
    { long = "qemu", value = "FILE", complete = "file", help = "QEMU 11 or newer: the program, or a folder with an "
      .. "unpacked one (default: installed, else the one of `doctor --fix`)" },
    { long = "memory", value = "MIB", help = "Memory of the machine in QEMU (default: by the size of the image)" },
    { long = "cpus", value = "N", help = "Processors of the machine in QEMU (default 1)" },
    { long = "no-kvm", help = "Emulate the machine in QEMU even where there is /dev/kvm" },
    { long = "crypto-api", help = "Run only a mock of the crypto API that a cage offers on port 9999" },
  },
  examples = { "ev-cage dev", "ev-cage dev --exec 'curl -k $EV_CAGE_URL/hello -H \"api-key: $EV_API_KEY\"'",
    "ev-cage dev --launcher qemu --memory 1024", "ev-cage dev --crypto-api -p 9999" },
}

local kernel = {
  name = "kernel", group = "Development", summary = "Kernels for enclave images",
  commands = {
    { name = "list", script = "scripts.kernel", summary = "Kernels found on this machine" },
    { name = "path", script = "scripts.kernel", summary = "The kernel that `build` would use",
      options = { { long = "kernel", value = "FILE", complete = "file", help = "Prefer this file" } } },
    { name = "fetch", script = "scripts.kernel",
      summary = "Unpack the distribution's 6.12 cloud kernel and its modules into the cache (nothing is installed)",
      options = { { long = "force", help = "Fetch it again" } } },
    { name = "build", script = "scripts.kernel",
      summary = "Build our own kernel from the distribution's source: small, hardened, no modules (minutes)",
      options = { { long = "force", help = "Build it again" },
        { long = "jobs", short = "j", value = "N", help = "Compilers at once (default: one a processor)" } } },
    { name = "use", script = "scripts.kernel", summary = "Prefer a kernel; one that cage.toml pins comes first",
      args = { { name = "VERSION", help = "As `kernel list` shows it; \"auto\" for the newest" } } },
  },
}

return {
  name = "ev-cage",
  summary = "Build, run and verify containers in AWS Nitro Enclaves",
  options = {
    { long = "verbose", short = "v", help = "More output" },
    { long = "json", help = "One JSON object on standard output" },
    { long = "help", short = "h", help = "Show help" },
    { long = "version", help = "Show the version" },
    { long = "lua-dir", value = "DIR", complete = "dir",
      help = "Lay this folder over the embedded scripts (developers; absolute path)" },
  },
  later = { "deploy", "delete", "restart", "list", "logs", "env", "encrypt", "scale", "migrate", "plugin", "proxy",
    "platform", "host", "enclave" },
  commands = {
    init, cert, build, describe, pcr_command, attest, dev,
    { name = "doctor", group = "Development", script = "scripts.doctor",
      summary = "Check what this machine can do, and say what is missing",
      options = { { long = "fix", help = "Get what can be had without changing the system: QEMU, unpacked into the "
        .. "cache" } } },
    kernel,
    { name = "run", group = "Lua", script = "scripts.run", summary = "Run a Lua script with the whole library",
      args = { { name = "FILE", complete = "file", help = "The script" },
        { name = "ARGS", optional = true, many = true, rest = true, help = "Its arguments" } },
      examples = { "ev-cage run deploy.lua --stage test" } },
    { name = "repl", group = "Lua", script = "scripts.repl", summary = "A Lua prompt over the library" },
    { name = "completion", group = "Other", script = "scripts.completion", summary = "Print a completion script",
      args = { { name = "SHELL", choices = { "bash", "zsh", "fish" }, help = "bash, zsh or fish" } },
      examples = { "ev-cage completion bash > /etc/bash_completion.d/ev-cage" } },
    { name = "update", group = "Other", script = "scripts.update",
      summary = "Say how to upgrade; never downloads anything",
      options = { { long = "force", short = "f", help = "Accepted for compatibility" } } },
    { name = "help", group = "Other", script = "scripts.help", summary = "Show help of a command",
      args = { { name = "COMMAND", optional = true, many = true, help = "The command" } } },
  },
}
