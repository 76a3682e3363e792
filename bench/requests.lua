-- Requests for wrk: args are a file of paths to rotate, the method, a file with the body or "-",
-- and headers as "Name: value". The end prints one line that bench/load.py reads.

local requests, turn = {}, 0

function init(args)
  local body = nil
  if args[3] ~= "-" then
    local file = io.open(args[3], "rb")
    body = file:read("*a")
    file:close()
  end
  local headers = {}
  for name, value in pairs(wrk.headers) do headers[name] = value end
  for i = 4, #args do
    local name, value = args[i]:match("^([^:]+):%s*(.*)$")
    headers[name] = value
  end
  for path in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format(args[2], path, headers, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  local line = "measured %d requests %d microseconds %d p50 %d p99 %d status %d socket\n"
  io.write(line:format(summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
