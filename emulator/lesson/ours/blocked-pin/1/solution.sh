#!/bin/sh
for try in 1 2 3; do pkcs11-tool --login --pin 000000 --list-objects; done; true
