#!/bin/sh
pkcs11-tool --login --pin 648219 --sign --mechanism ECDSA-SHA256 --id 10 --input-file order --output-file order.sig
