// hello-cage: a small web app for a cage. It needs nothing but Node.js itself.
const http = require("node:http");

const port = 8008;

const routes = {
  "GET /hello": (req, res) => json(res, 200, { response: "Hello! I'm writing to you from within an enclave" }),
  "GET /health": (req, res) => json(res, 200, { status: "ok" }),
  // Streams back what it gets, so that large bodies show that nothing is collected on the way.
  "POST /echo": (req, res) => {
    res.writeHead(200, { "content-type": req.headers["content-type"] || "application/octet-stream" });
    req.pipe(res);
  },
  // What the app was given: its arguments, directory, user and environment.
  "GET /self": (req, res) =>
    json(res, 200, { argv: process.argv.slice(1), cwd: process.cwd(), uid: process.getuid(), env: process.env }),
  "GET /headers": (req, res) => json(res, 200, req.headers),
  // A line a tick: shows that answers are not held back.
  "GET /ticks": (req, res) => {
    res.writeHead(200, { "content-type": "text/event-stream" });
    let n = 0;
    const timer = setInterval(() => {
      res.write(`data: ${++n}\n\n`);
      if (n === 3) { clearInterval(timer); res.end(); }
    }, 100);
    req.on("close", () => clearInterval(timer));
  },
};

function json(res, status, value) {
  const body = JSON.stringify(value);
  res.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
  res.end(body);
}

const server = http.createServer((req, res) => {
  const route = routes[`${req.method} ${req.url.split("?")[0]}`];
  if (route) route(req, res);
  else json(res, 404, { message: `no such route: ${req.method} ${req.url}` });
});

server.listen(port, "0.0.0.0", () => console.log(`listening on ${port}`));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
