package applet

import (
	"cmp"
	"encoding/hex"
	"math"
	"slices"
	"strconv"

	"hsmemu/applet/apdu"
	"hsmemu/keystore"
)

// Profile is what differs between firmware versions. Handlers ask its fields
// and never the version.
type Profile struct {
	// Name is the version as users write it, "4.1".
	Name string
	// Major and Minor are the last two bytes of the proprietary attributes in
	// the answer to SELECT.
	Major, Minor byte
	// Platform is the product byte before them.
	Platform byte
	// ShortAttributes: the answer to SELECT carries the version alone, without
	// options and platform (firmware 1).
	ShortAttributes bool
	// ATR is the answer to reset.
	ATR []byte
	// RSA lists the modulus lengths in bits.
	RSA []int
	// MaxCurve is the largest field in bits.
	MaxCurve int
	// Lacks lists algorithms that the firmware does not have although it has
	// their command.
	Lacks []keystore.Algorithm
	// KeyFiles: keys can be selected like files.
	KeyFiles bool
	// MaxAPDU is the longest command APDU in bytes; one that asks for an answer
	// has to be a byte shorter.
	MaxAPDU int
	// TooLong answers a longer one.
	TooLong apdu.SW
	// Memory is the room for files and keys in bytes.
	Memory int
	// NotSelected answers every command before the application is selected.
	NotSelected apdu.SW
	// NeverInitialised answers the user PIN's status on a card as shipped.
	NeverInitialised apdu.SW
	// NoTemplate answers the status of the biometric templates, which are
	// another application's.
	NoTemplate apdu.SW
	// DomainDeleted answers a successful deletion of a key domain, where there
	// are any.
	DomainDeleted apdu.SW
	// NoMatchingDomain answers UNWRAP KEY when no key domain has the blob's key
	// check value.
	NoMatchingDomain apdu.SW
	// BadBlob answers UNWRAP KEY of a blob that is malformed or was altered.
	BadBlob apdu.SW
	// LastTry answers the wrong PIN or SO-PIN that empties its counter.
	LastTry apdu.SW
	// FixedPINLength: only INITIALIZE DEVICE can change the length of the
	// user PIN.
	FixedPINLength bool
	// KeyDomains: INITIALIZE DEVICE takes a number of key domains, and the
	// management commands exist.
	KeyDomains bool
	// AES: symmetric keys, derivation and their commands exist.
	AES bool
	// NoBind: VERIFY with P1 = 01 keeps the login when the channel ends.
	NoBind bool
	// WeakAES: hardware makes symmetric keys with little or no entropy, which
	// the vendor warned of; no key of ours is weaker for it.
	WeakAES bool
	// PaddedP521: r and s of a signature on the curve of 521 bits have 66 bytes
	// each, with leading zeros where they are shorter.
	PaddedP521 bool
	// RestrictedUnwrap answers UNWRAP KEY of a key with an algorithm list;
	// [apdu.OK] on firmware without that defect.
	RestrictedUnwrap apdu.SW
	// StatusWithXKEK answers the status of public key authentication while an
	// XKEK key domain exists; [apdu.OK] on firmware without that defect.
	StatusWithXKEK apdu.SW
}

// What depends on the chip below: JCOP 2.4.1r3, JCOP 3 or JCOP 4.
const (
	maxAPDUJCOP2 = 1462
	maxAPDUJCOP3 = 1232
	maxAPDUJCOP4 = 1454
)

// The answers to reset of the contact interfaces, by platform.
var (
	atrJCOP2 = unhex("3BFE1800008131FE458031815448534D31738021408107FA")
	atrJCOP3 = unhex("3BDE18FF8191FE1FC38031815448534D317380214081071C")
	atrJCOP4 = unhex("3BDE96FF8191FE1FC38031815448534D3173802140810792")
)

// profiles is every firmware that can be emulated, oldest first. What a
// version adds was stated by the vendor; the split of single answers between
// versions is inferred where docs/fidelity.md says so.
var profiles = []Profile{
	first(),
	second("2.5", 5),
	second("2.6", 6),
	third("3.1", 1, weakAES, func(p *Profile) { p.RestrictedUnwrap = apdu.Internal }),
	third("3.2", 2, weakAES),
	third("3.3", 3),
	third("3.4", 4),
	third("3.5", 5, func(p *Profile) { p.StatusWithXKEK = apdu.Internal }),
	third("3.6", 6),
	fourth("4.0", 0),
	fourth("4.1", 1),
}

func weakAES(p *Profile) { p.WeakAES = true }

func first() Profile {
	return Profile{
		Name: "1.2", Major: 1, Minor: 2, ShortAttributes: true, ATR: atrJCOP2,
		RSA: []int{1024, 1536, 2048}, MaxCurve: 320, Lacks: []keystore.Algorithm{keystore.RSAPSS}, Memory: 36 << 10,
		MaxAPDU: maxAPDUJCOP2, TooLong: apdu.WrongData,
		NotSelected: apdu.ClassNotSupported, NeverInitialised: apdu.ReferenceDataNotUsable, LastTry: apdu.AuthenticationBlocked,
		NoTemplate:       apdu.ReferenceNotFound,
		NoMatchingDomain: apdu.WrongData, BadBlob: apdu.WrongData, FixedPINLength: true,
		RestrictedUnwrap: apdu.OK, StatusWithXKEK: apdu.OK,
	}
}

func second(name string, minor byte) Profile {
	return Profile{
		Name: name, Major: 2, Minor: minor, Platform: 0x06, ATR: atrJCOP2,
		RSA: []int{1024, 1536, 2048}, MaxCurve: 320, Memory: 36 << 10,
		MaxAPDU: maxAPDUJCOP2, TooLong: apdu.WrongData,
		NotSelected: apdu.ClassNotSupported, NeverInitialised: apdu.ReferenceNotFound, LastTry: apdu.AuthenticationBlocked,
		NoTemplate:       apdu.ReferenceDataNotUsable,
		NoMatchingDomain: apdu.WrongData, BadBlob: apdu.WrongData, NoBind: true,
		RestrictedUnwrap: apdu.OK, StatusWithXKEK: apdu.OK,
	}
}

// third is a firmware of the third generation, which differ by their defects.
func third(name string, minor byte, defects ...func(*Profile)) Profile {
	p := Profile{
		Name: name, Major: 3, Minor: minor, Platform: 0x06, ATR: atrJCOP3,
		RSA: []int{1024, 1536, 2048, 3072, 4096}, MaxCurve: 521, KeyFiles: true, Memory: 76 << 10,
		MaxAPDU: maxAPDUJCOP3, TooLong: apdu.WrongData,
		NotSelected: apdu.InstructionNotSupported, NeverInitialised: apdu.ReferenceNotFound, LastTry: apdu.AuthenticationBlocked,
		NoTemplate: apdu.ReferenceNotFound, DomainDeleted: apdu.ReferenceNotFound,
		NoMatchingDomain: apdu.WrongData, BadBlob: apdu.WrongData, KeyDomains: true, AES: true, NoBind: true,
		PaddedP521: true, RestrictedUnwrap: apdu.OK, StatusWithXKEK: apdu.OK,
	}
	for _, has := range defects {
		has(&p)
	}
	return p
}

// fourth is the third generation without its defects on another chip.
func fourth(name string, minor byte) Profile {
	p := third(name, minor)
	p.Major, p.ATR, p.MaxAPDU, p.PaddedP521 = 4, atrJCOP4, maxAPDUJCOP4, false
	p.NoMatchingDomain, p.BadBlob = apdu.ReferenceNotFound, apdu.ExecutionFailed
	return p
}

// DefaultFirmware is the profile of a new card for which none was asked.
const DefaultFirmware = "4.1"

// Profiles lists every firmware profile, oldest first.
func Profiles() []Profile { return slices.Clone(profiles) }

// ProfileOf finds the profile of a firmware version such as "4.1".
func ProfileOf(version string) (Profile, bool) {
	for i := len(profiles) - 1; i >= 0; i-- { // a copy per profile would cost what a status query does
		if profiles[i].Name == version {
			return profiles[i], true
		}
	}
	return Profile{}, false
}

// unhex is for constants of this package only.
func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("constant is not hexadecimal: " + s)
	}
	return b
}

// Firmwares lists the names of all profiles, the oldest first.
func Firmwares() []string {
	var names []string
	for _, p := range profiles {
		names = append(names, p.Name)
	}
	return names
}

// NearestFirmware is the name of the profile closest in number to a version that may
// have none, or DefaultFirmware for what is no number.
func NearestFirmware(version string) string {
	want, err := strconv.ParseFloat(version, 64)
	if err != nil {
		return DefaultFirmware
	}
	far := func(name string) float64 {
		v, _ := strconv.ParseFloat(name, 64) // of the table
		return math.Abs(v - want)
	}
	return slices.MinFunc(Firmwares(), func(x, y string) int { return cmp.Compare(far(x), far(y)) })
}
