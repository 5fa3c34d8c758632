#!/bin/sh
pkcs11-tool --login --pin 648219 --keypairgen --key-type EC:secp256r1 --id 10 --label signing
sc-hsm-tool --wrap-key key.wrap --key-reference 1 --pin 648219
pkcs11-tool --login --pin 648219 --delete-object --type privkey --id 10
sc-hsm-tool --unwrap-key key.wrap --key-reference 1 --pin 648219 --force
