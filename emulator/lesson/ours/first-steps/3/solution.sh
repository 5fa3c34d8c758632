#!/bin/sh
pkcs11-tool --login --pin 648219 --keypairgen --key-type EC:secp256r1 --id 10 --label first
