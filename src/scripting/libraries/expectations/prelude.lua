-- Runs in front of each expectation, here as on the server that the expectations were taken from.

-- A value as one printable line.
local function show(value, depth)
  depth = depth or 0
  local kind = type(value)
  if kind == 'number' then return string.format('%.17g', value) end
  if kind == 'string' then
    local text = '"' .. string.gsub(value, '[^ !#-Z^-~%[%]]', function(c) return string.format('\\%03d', string.byte(c)) end) .. '"'
    if #text <= 160 then return text end
    local sum = 7
    for i = 1, #value do sum = (sum * 31 + string.byte(value, i)) % 2147483647 end
    return string.sub(text, 1, 40) .. '..' .. #value .. ':' .. sum
  end
  if kind == 'table' then
    if depth > 24 then return '{..}' end
    local entries = {}
    for k, v in pairs(value) do entries[#entries + 1] = show(k, depth + 1) .. '=' .. show(v, depth + 1) end
    table.sort(entries)
    return '{' .. table.concat(entries, ',') .. '}'
  end
  if value == cjson.null then return 'null' end
  if kind == 'nil' or kind == 'boolean' then return tostring(value) end
  return kind
end

local function show_results(ok, ...)
  if not ok then return 'error: ' .. tostring((...)) end
  local results = {}
  for i = 1, select('#', ...) do results[i] = show((select(i, ...))) end
  return table.concat(results, ', ')
end

-- The same pseudo-random numbers everywhere: integers below `limit`.
local state = 1
local function seed(n) state = n * 7919 + 1 end
local function random(limit)
  state = (state * 16807) % 2147483647
  return math.floor(state / 2147483647 * limit)
end
local function random_bytes(length)
  local bytes = {}
  for i = 1, length do bytes[i] = string.char(random(256)) end
  return table.concat(bytes)
end
local function random_number()
  local kind = random(6)
  if kind == 0 then return random(200) - 100 end
  if kind == 1 then return random(2147483647) * (random(2147483647) - 1073741823) end
  if kind == 2 then return (random(2147483647) - 1073741823) / (random(2147483647) + 1) end
  if kind == 3 then return (random(2000000) - 1000000) / 1000 end
  if kind == 4 then return random(2147483647) * 2 ^ (random(2000) - 1000) end
  return (random(2147483647) - 1073741823) * 10 ^ (random(40) - 20)
end
local function random_value(depth)
  local kind = random(depth > 3 and 5 or 8)
  if kind == 0 then return random(2) == 0 end
  if kind <= 2 then return random_number() end
  if kind == 3 then return random_bytes(random(12)) end
  if kind == 4 then return string.rep(string.char(97 + random(26)), random(60)) end
  local result = {}
  -- A string key only by itself: the order of keys is the business of the interpreter.
  if kind == 7 and random(2) == 0 then return { ['k' .. random(30)] = random_value(depth + 1) } end
  local size = random(8)
  for i = 1, size do
    local value = random_value(depth + 1)
    if kind == 5 then result[i] = value
    elseif kind == 6 then result[random(30) * 100 - 700] = value
    elseif random(3) == 0 then result[random(12)] = value
    else result[i] = value end
  end
  return result
end
local function mutated(text)
  for i = 1, 1 + random(3) do
    local at = random(#text + 1)
    local kind = random(4)
    if kind == 0 then text = string.sub(text, 1, at)
    elseif kind == 1 then text = string.sub(text, 1, at) .. string.sub('{}[],:"\\tfn-+.eEuU0189 \n', 1 + random(24), 24) .. string.sub(text, at + 1)
    elseif kind == 2 then text = string.sub(text, 1, at) .. string.char(random(256)) .. string.sub(text, at + 2)
    else text = string.sub(text, 1, at) .. string.sub(text, at + 2 + random(3)) end
  end
  return text
end

-- One line for many runs of `run`: each seeded with its number.
local function fuzz(from, to, run)
  local sum, failures = 7, 0
  for n = from, to do
    seed(n)
    local line = show_results(pcall(run))
    if string.sub(line, 1, 6) == 'error:' then failures = failures + 1 end
    for i = 1, #line do sum = (sum * 31 + string.byte(line, i)) % 2147483647 end
  end
  return sum, failures
end
