# Words for ceremonies that no tool knows, in terms of `hsmemu apdu`. For POSIX shells, with OpenSSL and GNU's basenc:
#
#     . docs/ceremonies.sh
#
# All cards have the user PIN 648219 here. Bytes are hexadecimal digits in capitals.

SELECT=00A4040C0BE82B0601040181C31F0201 # the application
LOGIN=0020008106363438323139             # VERIFY the user PIN
DEVICES=00B12F02000004540200000000       # READ BINARY of EF 2F02: device certificate, issuer certificate

# The objects 7F49 of a key request, as OpenSC sends them: identifier, p, a, b, G, n, cofactor.
P256=7F4981DA060A04007F000702020202038120FFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF8220FFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFC83205AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B8441046B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C2964FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F58520FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551870101
BRAINPOOL=7F4981DA060A04007F000702020202038120A9FB57DBA1EEA9BC3E660A909D838D726E3BF623D52620282013481D1F6E537782207D5A0975FC2C3057EEF67530417AFFE7FB8055C126DC5C6CE94A4B44F330B5D9832026DC5C6CE94A4B44F330B5D9BBD77CBF958416295CF7E1CE6BCCDC18FF8C07B68441048BD2AEB9CB7E57CB2C4B482FFC81B7AFB9DE27E1E3BD23C23A4453BD9ACE3262547EF835C3DAC4FD97F8461A14611DC9C27745132DED8E545C1D54C72F0469978520A9FB57DBA1EEA9BC3E660A909D838D718C397AA3B561A6F7901E0E82974856A7870101

# tell CARD APDU...: sends them in one session and says in words what came of it, without the lengths of answers.
# $answer is what the last answer brought. The whole exchange is in the file exchange.
tell() {
	told=$1; shift
	hsmemu apdu --card "$told" $SELECT "$@" > exchange || return
	echo "$told"; sed -n '4,$s/, [0-9]* bytes$//; 4,$s/^  /  /p' exchange
	answer=$(sed -n 's/^< \(.*\)....$/\1/p' exchange | tail -n 1)
}

hex() { printf %s "$1" | basenc --base16 -w0; }

# apdu HEADER DATA: a command with data, in its extended form, that wants an answer.
apdu() { printf '%s00%04X%s0000' "$1" $((${#2} / 2)) "$2"; }

# generate KEY NAME CURVE [ATTRIBUTES]: GENERATE ASYMMETRIC KEY PAIR; KEY has two digits, NAME twelve characters.
# Attributes: 91 allowed algorithms, 92 key domain. The answer is the key, attested by its device.
generate() { apdu 0046"$1"00 "5F290100420C$(hex UTDUMMY00001)${3}5F200C$(hex "$2")$4"; }

# content OBJECT: what is inside the first object, a 7F21 or 67.
content() {
	inside=${1#7F21}; inside=${inside#67}
	case $inside in
	82*) length=$((2 * 0x$(echo "$inside" | cut -c3-6))); inside=${inside#??????} ;;
	*) length=$((2 * 0x$(echo "$inside" | cut -c3-4))); inside=${inside#????} ;;
	esac
	echo "$inside" | cut -c1-$length
}

# plain SIGNATURE: r and s of a signature in DER, 32 bytes each.
plain() {
	echo "$1" | basenc --base16 -d | openssl asn1parse -inform DER |
		sed -n 's/.*INTEGER *://p' | while read -r n; do printf '%64s' "$n"; done | tr ' ' 0
}

# believe NAME: MANAGE SECURITY ENVIRONMENT; what comes next is verified with the key of that name.
believe() { printf '002281B6%02X83%02X%s\n' $((${#1} / 2 + 2)) $((${#1} / 2)) "$1"; }

# introduce DEVICES: the commands after which a card believes the device whose EF 2F02 this is.
introduce() {
	issuer=${1#*5F29010042}
	believe "$(echo "$issuer" | cut -c3-$((2 + 2 * 0x$(echo "$issuer" | cut -c1-2))))"
	apdu 002A00BE "$(content "$1")"; echo
	name=$(echo "${1#*864104}" | cut -c129-) # what follows its point: 5F20, length, name
	believe "$(echo "$name" | cut -c7-$((6 + 2 * 0x$(echo "$name" | cut -c5-6))))"
}

# member SIGNER KEY DEVICES: the group signer KEY on the card SIGNER lets in the device whose EF 2F02 this is. The
# membership is in $membership.
member() {
	x=$(echo "${3#*864104}" | cut -c1-64) # of the device's key
	tell "$1" $LOGIN "$(apdu 8068"$2"73 "54$x")" && membership=5440$(plain "$answer")
}
