// An application of its own in JavaScript, by docs/protocol.md alone: sessions, events, commands.
//
//   npm install mqtt
//   node app.mjs home.warden.json                                        prints the events
//   node app.mjs home.warden.json front-door set_relay '{"on": 1}'       prints the verdict
//   node app.mjs --vectors session.json                                  checks itself
//
// The first file is what `warden app export home` wrote. Beside it, what devices proved is kept.
import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync, randomBytes,
  timingSafeEqual, X509Certificate } from 'node:crypto'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import tls from 'node:tls'

// CBOR (RFC 8949) in its core deterministic encoding: plain objects are maps with text keys.

const bytes = (...parts) => Buffer.concat(parts.map((part) => Buffer.from(part)))

function head (major, count) {
  const size = [24, 256, 65536, 2 ** 32].findIndex((limit) => count < limit)
  if (size === 0) return Buffer.from([major << 5 | Number(count)])
  const long = Buffer.alloc(8)
  long.writeBigUInt64BE(BigInt(count))
  const width = size < 0 ? 8 : 2 ** (size - 1)
  return bytes([major << 5 | 24 + Math.log2(width)], long.subarray(8 - width))
}

function float (value) {
  if (!Number.isFinite(value)) throw new Error('no NaN and no infinity in a message')
  const long = Buffer.alloc(9, 0xfb)
  long.writeDoubleBE(value, 1)
  if (Math.fround(value) !== value) return long
  const short = Buffer.alloc(5, 0xfa)
  short.writeFloatBE(value, 1)
  const bits = short.readUInt32BE(1)
  const exponent = (bits >>> 23 & 255) - 127
  const fraction = bits & 0x7fffff
  const sign = bits >>> 16 & 0x8000
  if (exponent >= -14 && exponent <= 15 && !(fraction & 0x1fff)) {
    return bytes([0xf9], [(sign | exponent + 15 << 10 | fraction >>> 13) >>> 8,
      (sign | exponent + 15 << 10 | fraction >>> 13) & 255])
  }
  if (exponent < -14 && exponent >= -24) { // a subnormal half, where nothing is lost
    const whole = fraction | 0x800000
    const shift = -1 - exponent
    if (!(whole & (1 << shift) - 1)) {
      const half = sign | whole >>> shift
      return bytes([0xf9, half >>> 8, half & 255])
    }
  }
  return short
}

export function encode (value) {
  if (value === null || value === undefined) return Buffer.from([0xf6])
  if (typeof value === 'boolean') return Buffer.from([value ? 0xf5 : 0xf4])
  if (typeof value === 'bigint' || Number.isInteger(value)) {
    return value >= 0 ? head(0, value) : head(1, -1n - BigInt(value))
  }
  if (typeof value === 'number') return float(value)
  if (typeof value === 'string') return bytes(head(3, Buffer.byteLength(value)), value)
  if (value instanceof Uint8Array) return bytes(head(2, value.length), value)
  if (Array.isArray(value)) return bytes(head(4, value.length), ...value.map(encode))
  const pairs = value instanceof Map ? [...value] : Object.entries(value)
  const items = pairs.map(([key, item]) => [encode(key), encode(item)])
  items.sort(([one], [two]) => Buffer.compare(one, two))
  return bytes(head(5, items.length), ...items.flat())
}

export function decode (data) {
  let at = 0
  const take = (count) => {
    if (count > data.length - at) throw new Error('ends early')
    at += count
    return data.subarray(at - count, at)
  }
  const item = (depth) => {
    if (depth > 16) throw new Error('nested too deep')
    const first = take(1)[0]
    const major = first >> 5
    const info = first & 31
    if (info > 27) throw new Error('an indefinite or reserved length')
    const argument = info < 24 ? Buffer.from([info]) : take(2 ** (info - 24))
    if (major === 7) {
      if (info < 24) {
        if (!(first in SIMPLE)) throw new Error('an unknown simple value')
        return SIMPLE[first]
      }
      if (info === 24) throw new Error('an unknown simple value')
      return info === 25 ? half(argument.readUInt16BE()) : info === 26 ? argument.readFloatBE() : argument.readDoubleBE()
    }
    const long = BigInt('0x' + argument.toString('hex'))
    const count = long <= Number.MAX_SAFE_INTEGER ? Number(long) : long
    if (major === 0) return count
    if (major === 1) return typeof count === 'number' ? -1 - count : -1n - count
    if (major === 6 || count > data.length) throw new Error('a tag, or more items than bytes')
    if (major === 2) return Buffer.from(take(count))
    if (major === 3) return new TextDecoder('utf-8', { fatal: true }).decode(take(count))
    if (major === 4) return Array.from({ length: count }, () => item(depth + 1))
    return Object.fromEntries(Array.from({ length: count }, () => [item(depth + 1), item(depth + 1)]))
  }
  const value = item(0)
  if (at !== data.length) throw new Error('bytes after the value')
  // One value has one encoding, so two different messages are never taken for the same.
  if (!encode(value).equals(data) && !hasFloat(value)) throw new Error('not canonical')
  return value
}
const SIMPLE = { 0xf4: false, 0xf5: true, 0xf6: null }
const hasFloat = (value) => typeof value === 'number' || (value !== null && typeof value === 'object' &&
  !(value instanceof Uint8Array) && Object.values(value).some(hasFloat))
const half = (bits) => {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, bits >> 10 & 31, bits & 1023]
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction)
}

// The protocol's messages (docs/protocol.md, Keys and Sealed mode).

const sha256 = (data) => createHash('sha256').update(data).digest()
const hmac = (key, data) => createHmac('sha256', key).update(data).digest()
const same = (one, two) => one.length === two.length && timingSafeEqual(one, two)
const isU32 = (value) => Number.isInteger(value) && value >= 0 && value < 2 ** 32

/** One device as its application sees it. */
export class Device {
  constructor (entry, appid, known = {}) {
    this.entry = entry
    this.k = Buffer.from(entry.keys.at(-1), 'hex')
    this.names = [1, entry.type, entry.device, appid]
    this.kh = this.derive('hello', 32)
    this.kw = this.derive('welcome', 32)
    this.kid = this.derive('kid', 8)
    this.proven = known.kid === this.kid.toString('hex') ? known.proven : entry.proven
    this.taken = known.kid === this.kid.toString('hex') ? known.taken : entry.event_number
    this.candidates = new Map() // by the hello's bytes, oldest first
    this.session = null
  }

  info (purpose) { return encode(['warden1', purpose, ...this.names]) }
  derive (purpose, length) {
    return Buffer.from(hkdfSync('sha256', this.k, Buffer.alloc(32), this.info(purpose), length))
  }

  topic (way, verb) {
    return `iot-2/type/${this.entry.type}/id/${this.entry.device}/${way}/${verb}/fmt/cose`
  }

  mac0 (key, kind, way, payload) {
    const header = encode(new Map([[1, 5], [4, this.kid]]))
    const tag = hmac(key, encode(['MAC0', header, encode([kind, this.topic(way, kind)]), payload]))
    return encode([header, {}, payload, tag])
  }

  wake () { return this.mac0(this.kw, 'wake', 'cmd', encode([1, randomBytes(16)])) }

  /** Return the welcome to a hello, or null. */
  onHello (hello, nonce = randomBytes(16), unix = Math.floor(Date.now() / 1000)) {
    const known = this.candidates.get(hello.toString('hex'))
    if (known) return known.welcome // the same hello again: the identical welcome
    if (hello.length > 512) return null
    const payload = decode(hello)[2]
    if (!Buffer.isBuffer(payload) || !same(this.mac0(this.kh, 'hello', 'evt', payload), hello)) return null
    const fields = decode(payload)
    const [version, nd, boot, vaultGen, policy, connect, wake] = fields
    const octets = (value, length) => Buffer.isBuffer(value) && value.length === length
    if (version !== 1 || ![boot, vaultGen, connect].every(isU32) || !octets(nd, 16) || !octets(policy, 32) ||
        !(wake === null || octets(wake, 16)) || fields.length < 7 || fields.length > 8 || (fields.length === 8 && fields[7] !== true)) return null
    if (!isLater([boot, connect], this.proven)) return null // played back
    const told = policy.toString('hex')
    const expected = this.entry.policies.includes(told) ? told : this.entry.policies[0]
    const welcome = this.mac0(this.kw, 'welcome', 'cmd',
      encode([1, sha256(hello), nonce, unix, Buffer.from(expected, 'hex')]))
    const session = new Session(this, hello, welcome, [boot, connect, vaultGen])
    this.candidates.set(hello.toString('hex'), session)
    if (this.candidates.size > 4) this.candidates.delete(this.candidates.keys().next().value)
    return welcome
  }

  /** Return {ack} for a ready, {event, id, previous, body} for another event, or null. */
  onMessage (event, data) {
    const current = this.session
    if (current && event === 'ready' && current.ready && same(current.ready, data)) {
      return { ack: current.ackIsLast ? current.ack : current.sealAck() }
    }
    for (const session of [current, ...this.candidates.values()]) {
      const counter = session ? session.counterOf(data) : null
      if (counter === null) continue // of another session
      if (session === current) {
        const payload = session.open(event, data)
        if (!payload || event === 'ready') return null
        const [id, previous, body] = payload
        return { event, id, previous, body }
      }
      if (event !== 'ready' || counter !== 0) return null
      const payload = session.open(event, data)
      if (!payload || !same(encode(payload), encode([0, null, {}]))) return null
      if (!isLater(session.proof, this.proven)) return null
      if (session.proof[2] < this.proven[2]) {
        throw new Error(`${this.entry.device} is in quarantine: its flash was played back`)
      }
      Object.assign(this, { proven: session.proof, session, candidates: new Map() })
      session.ready = data
      return { ack: session.sealAck(), up: true }
    }
    return null
  }
}

const isLater = ([boot, connect], [lastBoot, lastConnect]) =>
  boot > lastBoot || (boot === lastBoot && connect > lastConnect)

class Session {
  constructor (device, hello, welcome, proof) {
    Object.assign(this, { device, welcome, proof, since: Date.now(), down: 0, highest: -1, seen: 0n })
    const prk = hmac(bytes(sha256(hello), sha256(welcome)), device.k)
    const expand = (purpose, length) =>
      hmac(prk, bytes(device.info(purpose), [1])).subarray(0, length)
    this.up = [expand('up key', 32), expand('up iv', 13)]
    this.downKeys = [expand('down key', 32), expand('down iv', 13)]
    this.sid = expand('sid', 8)
  }

  header (partial) {
    return encode(new Map([[1, 31], [4, this.device.kid], [6, partial], [10, this.sid]]))
  }

  aad (header, way, verb) {
    return encode(['Encrypt0', header, encode(['msg', this.device.topic(way, verb)])])
  }

  seal (command, id, expiry, body) {
    const payload = encode([id, expiry, body])
    const partial = shortest(this.down++) // spent before it is used
    const header = this.header(partial)
    const cipher = createCipheriv('aes-256-ccm', this.downKeys[0], nonce(this.downKeys[1], partial), { authTagLength: 16 })
    cipher.setAAD(this.aad(header, 'cmd', command), { plaintextLength: payload.length })
    const sealed = bytes(cipher.update(payload), cipher.final(), cipher.getAuthTag())
    this.ackIsLast = false
    return encode([header, {}, sealed])
  }

  sealAck () {
    this.ack = this.seal('ack', 0, null, {})
    this.ackIsLast = true
    return this.ack
  }

  /** Return the counter of a message that names this session, or null. */
  counterOf (data) {
    const [header] = decode(data)
    const partial = Buffer.isBuffer(header) && decode(header)[6]
    if (!Buffer.isBuffer(partial) || !partial.length || partial.length > 4) return null
    const counter = partial.readUIntBE(0, partial.length)
    return same(this.header(shortest(counter)), header) ? counter : null
  }

  /** Return [id, expiry, body] of an authentic event of this session, or null. */
  open (event, data) {
    const [header, unprotected, sealed] = decode(data)
    const counter = this.counterOf(data)
    const partial = shortest(counter)
    if (Object.keys(unprotected).length || sealed.length < 16 || !this.isNew(counter)) return null
    const decipher = createDecipheriv('aes-256-ccm', this.up[0], nonce(this.up[1], partial), { authTagLength: 16 })
    decipher.setAuthTag(sealed.subarray(-16))
    decipher.setAAD(this.aad(header, 'evt', event), { plaintextLength: sealed.length - 16 })
    let plain
    try {
      plain = bytes(decipher.update(sealed.subarray(0, -16)), decipher.final())
    } catch {
      return null // tampered
    }
    this.mark(counter)
    const payload = decode(plain)
    return Array.isArray(payload) && payload.length === 3 && isU32(payload[0]) ? payload : null
  }

  isNew (counter) { // within a window of 64
    const behind = this.highest - counter
    return behind < 0 || (behind < 64 && !(this.seen >> BigInt(behind) & 1n))
  }

  mark (counter) {
    const ahead = counter - this.highest
    if (ahead > 0) {
      this.seen = (ahead < 64 ? this.seen << BigInt(ahead) : 0n) & (1n << 64n) - 1n | 1n
      this.highest = counter
    } else {
      this.seen |= 1n << BigInt(-ahead)
    }
  }
}

const shortest = (counter) => {
  const long = Buffer.alloc(4)
  long.writeUInt32BE(counter)
  return long.subarray(Math.min(3, long.findIndex((byte) => byte) >>> 0))
}
const nonce = (iv, partial) => {
  const padded = bytes(Buffer.alloc(13 - partial.length), partial)
  return iv.map((byte, at) => byte ^ padded[at])
}

// The application: one connection, its devices, its commands.

export class Application {
  constructor (file) {
    this.file = readJson(file)
    if (this.file.kind !== 'warden application' || this.file.format !== 1) throw new Error('no application\'s file')
    this.state = file.replace(/(\.json)?$/, '.state.json')
    let known = {}
    if (existsSync(this.state)) known = readJson(this.state) // else the first start
    this.devices = Object.fromEntries(this.file.devices.filter((entry) => entry.mode === 'sealed')
      .map((entry) => [entry.device, new Device(entry, this.file.appid, known[entry.device])]))
    this.waiting = new Map() // number of a command → its resolve
    this.number = randomBytes(4).readUInt32BE() >>> 1
    this.onEvent = () => {}
  }

  keep () { // before the answer that depends on it
    const known = Object.values(this.devices).map((device) => [device.entry.device,
      { kid: device.kid.toString('hex'), proven: device.proven, taken: device.taken }])
    writeFileSync(this.state + '.new', JSON.stringify(Object.fromEntries(known)), { mode: 0o600, flush: true })
    renameSync(this.state + '.new', this.state)
  }

  async start () {
    const { default: mqtt } = await import('mqtt')
    const { broker, trust, topics } = this.file
    const connect = () => {
      // A new client for each connection: nothing of an old session is sent again.
      const client = this.client = mqtt.connect({
        protocol: 'mqtts',
        host: broker.host,
        port: broker.port,
        clientId: broker.client_id,
        username: broker.user,
        password: broker.password,
        ca: trust.ca,
        minVersion: 'TLSv1.2',
        reconnectPeriod: 0,
        checkServerIdentity: (host, certificate) => {
          const key = new X509Certificate(certificate.raw).publicKey
          const pin = sha256(key.export({ type: 'spki', format: 'der' })).toString('hex')
          return trust.pins.includes(pin) ? tls.checkServerIdentity(host, certificate) : new Error('pin-mismatch')
        }
      })
      client.on('error', (error) => console.error(String(error)))
      client.on('close', () => { if (!this.ended) setTimeout(connect, Math.random() * 10000) })
      client.on('message', (topic, data, packet) => packet.retain || this.receive(topic, data))
      client.on('connect', () => client.subscribe(topics.subscribe, { qos: 0 }, () => {
        for (const device of Object.values(this.devices)) {
          device.session = null // the broker may have died, and the device's session with it
          this.publish(device, 'wake', device.wake())
        }
      }))
    }
    connect()
    // A device answers one wake in 10 s, and one that missed it would never say hello by itself.
    setInterval(() => {
      for (const device of Object.values(this.devices)) {
        if (!device.session && this.client.connected) this.publish(device, 'wake', device.wake())
      }
    }, 10000).unref()
  }

  publish (device, command, data) { this.client.publish(device.topic('cmd', command), data, { qos: 1 }) }

  receive (topic, data) {
    const [, , , , name, , event, , format] = topic.split('/')
    const device = this.devices[name]
    if (!device || topic !== device.topic('evt', event) || format !== 'cose') return
    try {
      if (event === 'hello') {
        const welcome = device.onHello(data)
        if (welcome) this.publish(device, 'welcome', welcome)
        return
      }
      const outcome = device.onMessage(event, data)
      if (!outcome) return // for another application, played back or forged
      if (outcome.ack) this.keep() // again for a ready that came again: the first time may have failed
      if (outcome.ack) this.publish(device, 'ack', outcome.ack)
      if (outcome.up) this.onSession?.(device)
      if (outcome.event === 'reply') this.waiting.get(outcome.id)?.(outcome.body)
      else if (outcome.event) this.handle(device, outcome)
    } catch (error) {
      console.error(`${name}: ${error.message}`)
    }
  }

  handle (device, { event, id, previous, body }) {
    if (previous === null) return this.onEvent(device.entry.device, event, body)
    if (previous > device.taken) return // the one before it is missing: the device sends both again
    if (id > device.taken) {
      this.onEvent(device.entry.device, event, body)
      device.taken = id
      this.keep()
    }
    this.publish(device, 'ack', device.session.seal('ack', device.taken, null, {}))
  }

  /** Send a command; resolve to the body of the reply: {ok, result} or {ok, error}. */
  async command (name, command, args, seconds = 30, timeout = 40) {
    const device = this.devices[name]
    if (!device) throw new Error(`no device ${name} in the file`)
    const end = Date.now() + timeout * 1000
    while (!device.session) {
      if (Date.now() > end) throw new Error(`no session with ${name}; nothing was sent`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    const { session } = device
    const id = this.number = (this.number + 1) % 2 ** 32
    const expiry = Math.floor((Date.now() - session.since) / 1000) + seconds
    const reply = new Promise((resolve, reject) => {
      this.waiting.set(id, resolve)
      setTimeout(reject, end - Date.now(), new Error(`${name} did not answer`)).unref()
    })
    this.publish(device, command, session.seal(command, id, expiry, args))
    return reply.finally(() => this.waiting.delete(id))
  }

  end () {
    this.ended = true
    this.client.end()
  }
}

// Run.

/** Return a file's content; the error of JSON.parse would quote a part of it. */
function readJson (path) {
  const text = readFileSync(path)
  try { return JSON.parse(text) } catch { throw new Error(`${path} is damaged`) }
}

/** Check every message of docs/vectors.md. */
function checkVectors (path) {
  const v = JSON.parse(readFileSync(path))
  const hex = (name) => Buffer.from(v[name], 'hex')
  const entry = { type: v.type, device: v.device, keys: [v.k], policies: [v.policy_hash], proven: [-1, -1, 0] }
  const wrong = []
  const check = (name, value) => value.equals(hex(name)) || wrong.push(name)
  // A refusal is an exception, or null.
  const checkAll = (list, device) => {
    for (const { name, event, message, outcome } of v[list]) {
      const data = Buffer.from(message, 'hex')
      let found = null
      try {
        found = event === 'hello' ? device.onHello(data) : device.onMessage(event, data)
      } catch { /* refused */ }
      if (Boolean(found) !== ['received', 'acked'].includes(outcome)) wrong.push(`${list}: ${name}`)
    }
  }
  const device = new Device(entry, v.appid)
  check('hello_key', device.kh)
  check('welcome_key', device.kw)
  check('kid', device.kid)
  checkAll('host_before', device)
  check('welcome', device.onHello(hex('hello'), hex('na'), v.unix_time))
  checkAll('host_ready', device)
  check('ack', device.onMessage('ready', hex('ready')).ack)
  const { session } = device
  const [[upKey, upIv], [downKey, downIv]] = [session.up, session.downKeys]
  Object.entries({ up_key: upKey, up_iv: upIv, down_key: downKey, down_iv: downIv, sid: session.sid })
    .forEach(([name, value]) => check(name, value))
  checkAll('host_after', device)
  check('command', session.seal('set_relay', 9, 60, decode(hex('command_body'))))
  console.log(wrong.length ? `wrong: ${wrong.join(', ')}` : 'all vectors are met')
  process.exitCode = wrong.length ? 1 : 0
}

async function main (file, device, command, args = '{}') {
  if (file === '--vectors') return checkVectors(device)
  const app = new Application(file)
  app.onEvent = (name, event, body) => console.log(JSON.stringify({ device: name, event, body }))
  await app.start()
  if (!device) return
  process.exitCode = 1
  try {
    const reply = await app.command(device, command, JSON.parse(args))
    console.log(JSON.stringify(reply))
    process.exitCode = reply.ok ? 0 : 1
  } catch (error) {
    console.error(error.message)
  }
  app.end()
}

await main(...process.argv.slice(2))
