package pkcs15

// Identifiers of the elementary files that every SmartCard-HSM has places for.
const (
	// FileDevice is EF.C_DevAut: the device certificate and that of its issuer.
	FileDevice uint16 = 0x2F02
	// FileTokenInfo holds the label and serial number of the token
	// (PKCS #15 §6.10).
	FileTokenInfo uint16 = 0x2F03
	// FileBlob takes a wrapped key that is too long for one command, before
	// UNWRAP KEY without data.
	FileBlob uint16 = 0x2F10
)

// First bytes of the identifiers of files that come in numbers; the second
// byte is the key reference kk or a running number nn.
const (
	PrefixKeyDescription         byte = 0xC4 // description of key kk
	PrefixCertificateDescription byte = 0xC8 // description of CA certificate nn
	PrefixDataDescription        byte = 0xC9 // description of data object nn
	PrefixCACertificate          byte = 0xCA // CA certificate nn
	PrefixMetaData               byte = 0xCB // meta data of key kk
	PrefixKey                    byte = 0xCC // key kk; 00 is the device key
	PrefixPrivateData            byte = 0xCD // data object nn, read after login only
	PrefixCertificate            byte = 0xCE // certificate or certificate request of key kk
	PrefixPublicData             byte = 0xCF // data object nn
)

// File is the identifier of file number n of a kind, as CE01 is that of
// PrefixCertificate and 1.
func File(prefix, n byte) uint16 { return uint16(prefix)<<8 | uint16(n) }
