// Runs modules of tests/unit on MicroPython's WebAssembly port, whose words have 32 bits: node run.mjs PACKAGE MODULE…, from the top of the
// repository. PACKAGE: the folder of an unpacked @micropython/micropython-webassembly-pyscript. Each module has an interpreter of its own.
// The port lacks os.urandom and cryptolib: both stand on Node's here.

import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const START = `
import sys
sys.path[:] = ["/tests/wasm", "/tests/unit/kit", "/lib", ".frozen"]
import os
import host
os.urandom = lambda n: bytes.fromhex(host.random(n))
import harness
`;

const [folder, ...modules] = process.argv.slice(2);
const { loadMicroPython } = await import(pathToFileURL(path.resolve(folder, "micropython.mjs")));

// What the interpreter imports as "host"; bytes cross over as hex.
function host() {
    const ciphers = [];
    return {
        random: (size) => randomBytes(size).toString("hex"),
        cipher(encrypts, mode, key, iv) {
            const name = `aes-${key.length * 4}-${mode === 1 ? "ecb" : "cbc"}`;
            const vector = mode === 1 ? null : Buffer.from(iv, "hex");
            const make = encrypts ? createCipheriv : createDecipheriv;
            const cipher = make(name, Buffer.from(key, "hex"), vector).setAutoPadding(false);
            return ciphers.push(cipher) - 1;
        },
        update: (number, data) => ciphers[number].update(data, "hex", "hex"),
    };
}

function copy(files, from, to) {
    files.mkdir(to);
    for (const name of readdirSync(from)) {
        const source = path.join(from, name);
        if (statSync(source).isDirectory()) {
            copy(files, source, `${to}/${name}`);
        } else if (name.endsWith(".py") || name.endsWith(".json")) {
            files.writeFile(`${to}/${name}`, readFileSync(source));
        }
    }
}

let failed = 0;
for (const module of modules) {
    const micropython = await loadMicroPython({
        heapsize: 8 << 20,
        linebuffer: true,
        stdout: (line) => {
            failed += line.startsWith("FAIL ");
            console.log(line);
        },
    });
    micropython.FS.mkdir("/tests");
    copy(micropython.FS, "tests/unit", "/tests/unit");
    copy(micropython.FS, "tests/wasm", "/tests/wasm");
    copy(micropython.FS, "tests/vectors", "/tests/vectors");
    copy(micropython.FS, "lib", "/lib");
    micropython.registerJsModule("host", host());
    console.log(`== ${module}`);
    try {
        micropython.runPython(`${START}harness.run("${module}")`);
    } catch (error) {
        failed += 1;
        console.log(`FAIL ${module} at its import\n${error}`);
    }
}
process.exit(failed ? 1 : 0);
