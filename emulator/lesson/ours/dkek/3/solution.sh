#!/bin/sh
pkcs11-tool --slot-index 0 --login --pin 648219 --keypairgen --key-type EC:secp256r1 --id 10 --label signing
sc-hsm-tool --reader 0 --wrap-key signing.wrap --key-reference 1 --pin 648219
