#!/bin/sh
pkcs11-tool --login --pin 648219 --keypairgen --key-type EC:secp256r1 --id 10 --label mine
sc-hsm-tool --export-for-pub-key-auth mine.pka --key-reference 1
