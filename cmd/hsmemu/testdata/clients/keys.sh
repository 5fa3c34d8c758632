# shellcheck shell=sh
# What scenarios begin with: a card with a P-256 and an RSA key, and a certificate for each from a CA of the
# scenario's own, on the card and in files: ec.pub, ec.pem, rsa.pub, rsa.pem, ca.pem.
sc-hsm-tool --initialize --so-pin "$SOPIN" --pin "$PIN" --label desk > /dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -subj /CN=ca -days 30 -out ca.pem 2> /dev/null
# issued NAME SUBJECT: a certificate NAME.pem for the public key NAME.pub
issued() {
	printf 'subjectAltName = DNS:localhost, IP:127.0.0.1, email:user@example.org\nkeyUsage = digitalSignature, keyEncipherment\n' > "$1.ext"
	openssl x509 -new -force_pubkey "$1.pub" -subj "$2" -days 30 -extfile "$1.ext" -CA ca.pem -CAkey ca.key -out "$1.pem" 2> /dev/null
}
# made ID NAME TYPE: a key pair on the card, NAME.pub and NAME.pem
made() {
	pkcs11-tool --module "$P11" --login --pin "$PIN" --keypairgen --key-type "$3" --id "$1" --label "$2" > /dev/null
	pkcs15-tool --read-public-key "$1" -o "$2.pub" > /dev/null
	issued "$2" "/CN=$2"
	openssl x509 -in "$2.pem" -outform DER -out "$2.der"
	pkcs11-tool --module "$P11" --login --pin "$PIN" --write-object "$2.der" --type cert --id "$1" --label "$2" > /dev/null
}
made 0a ec EC:secp256r1
made 0b rsa rsa:2048
# serving PID PORT: wait until that process listens at PORT, or has ended
serving() {
	while kill -0 "$1" 2> /dev/null; do
		openssl s_client -connect "127.0.0.1:$2" < /dev/null 2>&1 | grep -q 'Connection refused' || return 0
		sleep 0.02
	done
	return 1
}
# gnupg [DAEMON]: an empty home for GnuPG with this card daemon, or its own, that trusts the CA and gets the PIN from a program
gnupg() {
	export GNUPGHOME="$PWD/.g"
	mkdir -m 700 "$GNUPGHOME"
	cat > pinentry <<- 'END'
		#!/bin/sh
		echo OK
		while read -r command rest; do
			case $command in
			GETPIN) printf 'D %s\nOK\n' "$PIN" ;;
			BYE) echo OK && exit ;;
			*) echo OK ;;
			esac
		done
	END
	chmod +x pinentry
	printf 'pinentry-program %s\nscdaemon-program %s\n' "$PWD/pinentry" "${1:-$(command -v scdaemon || echo /usr/lib/gnupg/scdaemon)}" > "$GNUPGHOME/gpg-agent.conf"
	printf 'disable-crl-checks\nagent-program %s\n' "$(command -v gpg-agent)" > "$GNUPGHOME/gpgsm.conf"
	openssl x509 -in ca.pem -noout -fingerprint -sha1 | sed 's/.*=//; s/$/ S/' > "$GNUPGHOME/trustlist.txt"
	gpgsm --import ca.pem
	trap 'gpg-connect-agent killagent /bye' EXIT
}
# signed_by_gpgsm NAME: a message signed by gpgsm with the RSA key NAME; OpenSSL verifies it. gpg-agent puts a zero in front
# of every other RSA signature of a card, which OpenSSL refuses for its length, so up to forty are made until it does not.
signed_by_gpgsm() {
	for n in $(seq 40); do
		echo "$n to sign by $1" > message
		gpgsm --batch --yes --local-user "/CN=$1" --output "$1.cms" --sign message 2>> gpgsm.log
		gpgsm --batch --verify "$1.cms" 2>&1 | grep '^gpgsm: Good signature'
		if openssl cms -verify -inform DER -in "$1.cms" -CAfile ca.pem -purpose any -out read 2> refusal; then
			cmp message read && echo "$1: message verifies"
			return
		fi
		grep -q 'wrong signature length' refusal
	done
	return 1
}
