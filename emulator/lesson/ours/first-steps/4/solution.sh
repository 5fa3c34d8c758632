#!/bin/sh
pkcs11-tool --login --pin 648219 --sign --mechanism ECDSA-SHA256 --signature-format openssl --id 10 --input-file order --output-file order.sig
pkcs11-tool --read-object --type pubkey --id 10 --output-file public.der
