#!/bin/sh
pkcs11-tool --login --pin 648219 --delete-object --type privkey --id 10
hsmemu attest mine.pka
