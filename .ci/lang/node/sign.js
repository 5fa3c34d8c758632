// A program as users of pkcs11js write them: it makes a key on the first token
// it finds, signs with it, and has Node's own cryptography verify the signature.
// Its arguments are a PKCS#11 module and a user PIN.
import assert from "node:assert/strict";
import { createHash, createPublicKey, verify } from "node:crypto";
import pkcs11js from "pkcs11js";

const [module, pin] = process.argv.slice(2);
const p = new pkcs11js.PKCS11();
p.load(module);
p.C_Initialize();
const [slot] = p.C_GetSlotList(true);
assert(slot, "no token");
const s = p.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION);
assert.throws(() => p.C_Login(s, pkcs11js.CKU_USER, "000000"), /CKR_PIN_INCORRECT/);
p.C_Login(s, pkcs11js.CKU_USER, pin);

const id = { type: pkcs11js.CKA_ID, value: Buffer.from([0x4e]) };
const keys = p.C_GenerateKeyPair(
  s,
  { mechanism: pkcs11js.CKM_EC_KEY_PAIR_GEN },
  [
    id,
    { type: pkcs11js.CKA_EC_PARAMS, value: Buffer.from("06082a8648ce3d030107", "hex") }, // P-256
    { type: pkcs11js.CKA_TOKEN, value: true },
    { type: pkcs11js.CKA_VERIFY, value: true },
  ],
  [
    id,
    { type: pkcs11js.CKA_LABEL, value: "node" },
    { type: pkcs11js.CKA_TOKEN, value: true },
    { type: pkcs11js.CKA_SIGN, value: true },
  ],
);
const [{ value: der }] = p.C_GetAttributeValue(s, keys.publicKey, [{ type: pkcs11js.CKA_EC_POINT }]);
const point = der.subarray(2); // an octet string of 65 bytes
const coordinate = (from) => point.subarray(from, from + 32).toString("base64url");
const key = createPublicKey({ format: "jwk", key: { kty: "EC", crv: "P-256", x: coordinate(1), y: coordinate(33) } });

const message = Buffer.from("signed from Node");
p.C_SignInit(s, { mechanism: pkcs11js.CKM_ECDSA }, keys.privateKey);
const signature = p.C_Sign(s, createHash("sha256").update(message).digest(), Buffer.alloc(64));
assert(verify("sha256", message, { key, dsaEncoding: "ieee-p1363" }, signature), "the signature does not verify");
assert.notDeepEqual(p.C_GenerateRandom(s, Buffer.alloc(32)), Buffer.alloc(32));
p.C_DestroyObject(s, keys.privateKey);
p.C_Finalize();
console.log("node: signed and verified");
