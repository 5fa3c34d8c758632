// A program as users of graphene-pk11 write them: it makes two keys on the first
// token it finds, signs with one, deciphers with the other, and has Node's own
// cryptography verify and encrypt. Its arguments are a PKCS#11 module and a user PIN.
import assert from "node:assert/strict";
import { constants, createHash, createPublicKey, publicEncrypt, verify } from "node:crypto";
import graphene from "graphene-pk11";

const { KeyGenMechanism, Module, NamedCurve, SessionFlag, UserType } = graphene;
const [path, pin] = process.argv.slice(2);
const module = Module.load(path);
module.initialize();
const session = module.getSlots(0, true).open(SessionFlag.SERIAL_SESSION | SessionFlag.RW_SESSION);
assert.throws(() => session.login("000000", UserType.USER), /CKR_PIN_INCORRECT/);
session.login(pin, UserType.USER);

const id = Buffer.from([0x47]);
const ec = session.generateKeyPair(
  KeyGenMechanism.EC,
  { id, token: true, verify: true, paramsEC: NamedCurve.getByName("secp256r1").value },
  { id, token: true, sign: true, label: "graphene" },
);
const point = ec.publicKey.getAttribute("pointEC").subarray(2); // an octet string of 65 bytes
const coordinate = (from) => point.subarray(from, from + 32).toString("base64url");
const key = createPublicKey({ format: "jwk", key: { kty: "EC", crv: "P-256", x: coordinate(1), y: coordinate(33) } });
const message = Buffer.from("signed from Node");
const signature = session.createSign("ECDSA", ec.privateKey).once(createHash("sha256").update(message).digest());
assert(verify("sha256", message, { key, dsaEncoding: "ieee-p1363" }, signature), "the signature does not verify");

const other = Buffer.from([0x48]);
const rsa = session.generateKeyPair(
  KeyGenMechanism.RSA,
  { id: other, token: true, encrypt: true, modulusBits: 2048, publicExponent: Buffer.from([1, 0, 1]) },
  { id: other, token: true, decrypt: true, label: "graphene" },
);
const n = rsa.publicKey.getAttribute("modulus").toString("base64url");
const secret = publicEncrypt(
  { key: createPublicKey({ format: "jwk", key: { kty: "RSA", n, e: "AQAB" } }), padding: constants.RSA_PKCS1_PADDING },
  message,
);
const clear = session.createDecipher("RSA_PKCS", rsa.privateKey).once(secret, Buffer.alloc(256));
assert.deepEqual(clear, message);
session.logout();
session.close();
module.finalize();
console.log("graphene: signed, verified and deciphered");
