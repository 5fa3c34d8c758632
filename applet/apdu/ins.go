package apdu

// AID is the application identifier of the SmartCard-HSM: the vendor's object
// identifier 1.3.6.1.4.1.24991.2.1 behind the category byte E8 of ISO 7816-4.
const AID = "\xE8\x2B\x06\x01\x04\x01\x81\xC3\x1F\x02\x01"

// Class bytes (ISO 7816-4 §5.4.1).
const (
	ClassISO         byte = 0x00 // interindustry commands
	ClassProprietary byte = 0x80 // commands of the vendor
	ClassSecure      byte = 0x0C // bits of secure messaging with an authenticated header
	ClassChannel     byte = 0x03 // bits of the logical channel
)

// Instruction bytes of the SmartCard-HSM: those of ISO 7816-4 and ISO 7816-8,
// and from 46 on, where no standard is named, the vendor's own.
const (
	InsVerify                        byte = 0x20 // ISO 7816-4
	InsManageSecurityEnvironment     byte = 0x22 // ISO 7816-4
	InsChangeReferenceData           byte = 0x24 // ISO 7816-4
	InsPerformSecurityOperation      byte = 0x2A // ISO 7816-8, VERIFY CERTIFICATE
	InsResetRetryCounter             byte = 0x2C // ISO 7816-4
	InsGenerateKeyPair               byte = 0x46 // ISO 7816-8, its number; data are the vendor's
	InsGenerateSymmetricKey          byte = 0x48
	InsInitializeDevice              byte = 0x50
	InsManageKeyDomain               byte = 0x52
	InsManagePublicKeyAuthentication byte = 0x54
	InsEnumerateObjects              byte = 0x58
	InsGenerateSessionPIN            byte = 0x5A
	InsDecipher                      byte = 0x62
	InsSign                          byte = 0x68
	InsWrapKey                       byte = 0x72
	InsUnwrapKey                     byte = 0x74
	InsDeriveECKey                   byte = 0x76
	InsSymmetricCipher               byte = 0x78
	InsExternalAuthenticate          byte = 0x82 // ISO 7816-4
	InsGetChallenge                  byte = 0x84 // ISO 7816-4
	InsGeneralAuthenticate           byte = 0x86 // ISO 7816-4
	InsSelect                        byte = 0xA4 // ISO 7816-4
	InsReadBinary                    byte = 0xB1 // ISO 7816-4, with odd instruction byte
	InsUpdateBinary                  byte = 0xD7 // ISO 7816-4, with odd instruction byte
	InsDeleteFile                    byte = 0xE4 // ISO 7816-9
)

// Instruction bytes that the card manager alone has (GlobalPlatform Card Specification
// §11), and InsFinalise, which is this project's own (UPDATE-22).
const (
	InsFinalise  byte = 0x10
	InsGetData   byte = 0xCA
	InsPutKey    byte = 0xD8
	InsInstall   byte = 0xE6
	InsLoad      byte = 0xE8
	InsGetStatus byte = 0xF2
)

// SelectByName is P1 of the SELECT that names an application.
const SelectByName byte = 0x04

// References of PINs, P2 of the PIN commands.
const (
	RefUserPIN byte = 0x81
	RefSOPIN   byte = 0x88
)

// Data objects of INITIALIZE DEVICE. They stand in the command without a template
// around them.
const (
	InitOptions    = 0x80
	InitUserPIN    = 0x81
	InitSOPIN      = 0x82
	InitTries      = 0x91 // of the user PIN
	InitShares     = 0x92 // of a DKEK
	InitCustodians = 0x93 // public keys, and how many have to authenticate
	InitDomains    = 0x97 // number of empty key domains
)

// Data objects of READ BINARY and UPDATE BINARY with an odd instruction byte
// (ISO 7816-4).
const (
	FileData   = 0x53
	FileOffset = 0x54
)

// Data objects of a key: what generation is told and SELECT of the key shows.
const (
	KeyUses       = 0x90
	KeyAlgorithms = 0x91
	KeyDomain     = 0x92
)

// SelectApplication is the command that selects the application and wants nothing
// of it.
func SelectApplication() Command {
	return Command{INS: InsSelect, P1: SelectByName, P2: 0x0C, Data: []byte(AID)}
}

// ReadFile is the command that reads a whole elementary file.
func ReadFile(id uint16) Command {
	return Command{INS: InsReadBinary, P1: byte(id >> 8), P2: byte(id), Data: []byte{FileOffset, 2, 0, 0}, Ne: 65536, Extended: true}
}
