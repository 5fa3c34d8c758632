#!/bin/sh
set -e
hsmemu card new vault
number=1
for custodian in carla dora emil
do
    hsmemu card new $custodian --serial DENK040418$number
    number=$((number + 1))
    hsmemu exec --card $custodian -- sh -c "
        sc-hsm-tool --initialize --so-pin 3537363231383830 --pin 648219
        pkcs11-tool --login --pin 648219 --keypairgen --key-type EC:secp256r1 --id 01 --label custodian
        sc-hsm-tool --export-for-pub-key-auth $custodian.pka --key-reference 1"
done
