#!/bin/sh
set -e
hsmemu card new lab --like so=15,user=3,options=0001
hsmemu exec --card lab -- pkcs11-tool --login --pin 648219 --keypairgen --key-type EC:secp256r1 --id 10 --label wages
echo 'pay 100 to Alice' > order
echo 648291 > pin
cat > wages <<'END'
#!/bin/sh
pkcs11-tool --login --pin "$(cat pin)" --sign --mechanism ECDSA-SHA256 --id 01 --input-file order --output-file order.sig 2> log || { echo "wages: it failed"; exit 1; }
END
chmod +x wages
