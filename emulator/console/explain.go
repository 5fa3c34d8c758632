package console

import (
	"strings"

	"hsmemu/emulator/view"
)

// An explanation is what a failure usually comes from. It applies to commands with a
// header and a status word, in both of which an X stands for any digit.
type explanation struct {
	header, sw string
	Title      string
	Why        string
	Helps      string
	Rule       string
	// SideBySide are two ways in which a secret is written that are mixed up, each with what
	// the card gets of it.
	SideBySide [][2]string
}

// asText is the SO-PIN of the manuals as it is meant and as it is often typed.
var asText = [][2]string{
	{"3537363231383830 as hexadecimal digits", "8 bytes: 35 37 36 32 31 38 38 30"},
	{"3537363231383830 as text", "16 bytes: 33 35 33 37 33 36 33 32 33 31 33 38 33 38 33 30"},
}

// explanations are those that are known; the first that fits is taken.
var explanations = []explanation{
	{
		"XX20XX81", "63CX", "Wrong user PIN", "The card compared the PIN and spent a try before that.",
		"The right PIN fills the counter again. Asking for the status, as clients do first, costs nothing: it looks the same, 63Cx, and is no try.", "PIN-39", nil,
	},
	{
		"XX20XX81", "6983", "User PIN blocked", "All tries are spent, the last one perhaps just now. From then on the card does not even compare the PIN.",
		"The SO-PIN unblocks it if the options of the initialisation allow that; otherwise INITIALIZE DEVICE, which erases the keys.", "PIN-40", nil,
	},
	{
		"XX20XX8X", "6984", "Transport PIN not changed yet", "The card came with a PIN for its way. It logs nobody in.",
		"CHANGE REFERENCE DATA makes a user PIN of it.", "PIN-36", nil,
	},
	{
		"XX20XX81", "6700", "PIN of another length", "The card looks at the length first, and spends no try.",
		"Typed a digit too many or too few, or the SO-PIN where the user PIN is meant.", "PIN-37", nil,
	},
	{
		"XX20XX8X", "6A88", "There is no PIN to compare", "The card was never initialised, or it has no user PIN, public keys being the login.",
		"INITIALIZE DEVICE sets the PINs.", "PIN-35", nil,
	},
	{
		"XX20XX88", "6983", "SO-PIN blocked", "All tries are spent, the last one perhaps just now, and no command unblocks it. A user PIN that is not blocked goes on working.",
		"Only the vendor's firmware update makes a new card of it: keys gone, new identity.", "PIN-64", nil,
	},
	{
		"XX24XX81", "63CX", "Wrong present PIN in a change", "The card compared the PIN that stands before the new one, and spent a try before that, as in a login.",
		"The right present PIN fills the counter again. A transport PIN is changed in the same way.", "PIN-50", nil,
	},
	{
		"XX24XX81", "6983", "PIN blocked", "All tries are spent, the last one perhaps just now. From then on the card does not even compare the PIN.",
		"The SO-PIN unblocks it if the options of the initialisation allow that; otherwise INITIALIZE DEVICE, which erases the keys.", "PIN-64", nil,
	},
	{
		"XX24XX81", "6A80", "The card does not take this new PIN", "No try is spent. The new PIN has a length that its number of tries does not allow, or is the transport PIN again.",
		"Not shorter than the PIN of the initialisation, and 6 to 16 bytes.", "PIN-52", nil,
	},
	{
		"XX24XX8X", "6A88", "There is no PIN to change", "The card was never initialised, or it has no user PIN, public keys being the login.",
		"INITIALIZE DEVICE sets the PINs.", "PIN-59", nil,
	},
	{
		"XX24XX88", "63CX", "Wrong present SO-PIN in a change", "One of 15 tries is spent. Nothing but the right SO-PIN brings it back.",
		"The SO-PIN is 8 bytes, which tools take as 16 hexadecimal digits.", "PIN-59", asText,
	},
	{
		"XX24XX88", "6983", "SO-PIN blocked", "All tries are spent, the last one perhaps just now, and no command unblocks it. A user PIN that is not blocked goes on working.",
		"Only the vendor's firmware update makes a new card of it: keys gone, new identity.", "PIN-64", nil,
	},
	{
		"XX24XX88", "6700", "SO-PIN of another length", "Both SO-PINs have 8 bytes. No try is spent.",
		"16 hexadecimal digits are 8 bytes; 16 characters of text are not.", "PIN-59", asText,
	},
	{
		"XX20XX88", "63CX", "Wrong SO-PIN", "One of 15 tries is spent. Nothing but the right SO-PIN brings it back.",
		"The SO-PIN is 8 bytes, which tools take as 16 hexadecimal digits.", "PIN-1", asText,
	},
	{
		"XX50XXXX", "63CX", "Wrong SO-PIN in an initialisation", "One of 15 tries is spent, and nothing is erased.",
		"Use the SO-PIN of the first initialisation: a later one does not set another. Often it was typed as text where hexadecimal digits are meant.", "PIN-14", asText,
	},
	{
		"XX50XXXX", "6700", "SO-PIN of another length", "The SO-PIN of an initialisation has 8 bytes. No try is spent.",
		"16 hexadecimal digits are 8 bytes; 16 characters of text are not.", "PIN-21", asText,
	},
	{
		"XX50XXXX", "6A80", "The card does not take these parameters", "They are looked at before the SO-PIN, so no try is spent.",
		"Usually the number of tries: at most 3 for a PIN of 6 bytes, 5 for 7, 10 from 8 on.", "PIN-5", nil,
	},
	{
		"XX50XXXX", "6983", "SO-PIN blocked", "All tries are spent, the last one perhaps just now, and no command unblocks it. A user PIN that is not blocked goes on working.",
		"Only the vendor's firmware update makes a new card of it: keys gone, new identity.", "PIN-64", nil,
	},
	{
		"XX2CXXXX", "63CX", "Wrong SO-PIN in unblocking", "The first eight bytes were taken for the SO-PIN, and a try is spent.",
		"pkcs15-tool --unblock-pin sends 16 hexadecimal digits as text, of which the card takes the first eight for the SO-PIN.", "PIN-71", asText,
	},
	{
		"XX2CXXXX", "6985", "Unblocking is disabled", "The options given at the initialisation do not allow the SO-PIN to reset the counter. No try is spent.",
		"Options 0001 allow it. They cannot be changed later: only another INITIALIZE DEVICE sets them, and it erases the keys.", "PIN-61", nil,
	},
	{
		"XX2CXXXX", "6A88", "There is no PIN to unblock", "The card was never initialised, or it has no user PIN, public keys being the login. No try is spent.",
		"INITIALIZE DEVICE sets the PINs.", "PIN-60", nil,
	},
	{
		"XX2CXXXX", "6A80", "The card does not take this new PIN", "No try is spent. The new PIN has a length that its number of tries does not allow.",
		"A PIN that is not shorter than that of the initialisation.", "PIN-65", nil,
	},
	{
		"XX2CXXXX", "6983", "SO-PIN blocked", "It can unblock nothing any more.",
		"Only the vendor's firmware update makes a new card of it: keys gone, new identity.", "PIN-64", nil,
	},
	{
		"XX68XX4X", "6700", "PSS of an old client", "The card wants the hash alone here. OpenSC 0.23 puts a DigestInfo around it.",
		"A newer OpenSC, or a mechanism that sends the hash.", "KEY-40", nil,
	},
	{
		"XX6XXXXX", "6A88", "No such key on the card", "P1 is the key reference, a number that the card gives. It is not CKA_ID, which clients keep in a file of their own.",
		"List the keys with both: the page shows them side by side.", "KEY-12", nil,
	},
	{
		"XX74XXXX", "6A88", "No key domain for this key blob", "It was wrapped under a DKEK that this card does not have.",
		"Compare the key check values (KCV) of both cards.", "DOM-24", nil,
	},
	{
		"XX74XXXX", "6400", "The key blob is damaged", "It is not as it was when a card wrapped it, or no key blob at all.",
		"Take another copy of the file.", "DOM-25", nil,
	},
	{
		"XX7XXXXX", "6A88", "No such key on the card", "P1 is the key reference, a number that the card gives. It is not CKA_ID.",
		"List the keys with both.", "KEY-12", nil,
	},
	{
		"XX74XXXX", "6A80", "The key blob does not fit", "It was wrapped under another DKEK, or is damaged.",
		"Compare the key check values (KCV) of both cards.", "DOM-26", nil,
	},
	{"XX74XXXX", "6A89", "The number is taken", "A key is there already.", "Another key reference, or delete that key.", "KEY-25", nil},
	{
		"XX7XXXXX", "6D00", "The card has no DKEK", "Usually it was initialised without DKEK shares: then it wraps and unwraps nothing. Or the application is not selected.",
		"Only another INITIALIZE DEVICE gives it a DKEK, and it erases the keys: sc-hsm-tool --initialize --dkek-shares.", "DOM-4", nil,
	},
	{
		"XX52XXXX", "6D00", "The card has no DKEK", "Usually it was initialised without DKEK shares: then it takes none. Or the application is not selected.",
		"Only another INITIALIZE DEVICE gives it a DKEK, and it erases the keys: sc-hsm-tool --initialize --dkek-shares.", "DOM-4", nil,
	},
	{
		"XX52XXXX", "6985", "The key domain takes no more", "All DKEK shares are there already, or the slot is in use.",
		"The key check value (KCV) tells whether they were the right ones.", "DOM-9", nil,
	},
	{
		"XX72XXXX", "6A81", "This key may not leave the card", "Its list of algorithms does not have 92, wrapping.",
		"The list is given when a key is made, and never changed.", "DOM-18", nil,
	},
	{
		"XX6XXXXX", "6984", "The use counter is at zero", "The key was made for so many uses, and they are spent.",
		"Nothing fills the counter again: make another key.", "KEY-10", nil,
	},
	{
		"XX78XXXX", "6984", "The use counter is at zero", "The key was made for so many uses, and they are spent.",
		"Nothing fills the counter again: make another key.", "KEY-10", nil,
	},
	{
		"XX46XXXX", "6A88", "No such key domain", "The key was to be made in a key domain that is empty or not there.",
		"Make the key domain first.", "KEY-29", nil,
	},
	{
		"0X82XXXX", "6300", "The signature of a public key does not fit", "Another key signed than the one that was named, or something else than the challenge.",
		"Sign the challenge of this card, with the key that is registered with it.", "PKA-16", nil,
	},
	{
		"XX7XXXXX", "6985", "Shares are missing", "The key domain has no key encryption key yet.",
		"Import the other DKEK shares first.", "DOM-19", nil,
	},
	{
		"XX4XXXXX", "6985", "Shares are missing", "The card makes no keys while DKEK shares are outstanding.",
		"Import the other DKEK shares first.", "KEY-28", nil,
	},
	{
		"XX68XXXX", "6700", "Wrong length to sign", "The algorithm wants data of another length, say a whole block for raw RSA.",
		"The hash has to be that of the algorithm.", "KEY-41", nil,
	},
	{
		"XXXXXXXX", "6982", "Not allowed without a login", "Nobody is logged in, or the login ended: at a reset, at another SELECT of the application, after a wrong PIN.",
		"Log in again. Keys and private objects are read by nobody.", "FILE-5", nil,
	},
	{
		"XXXXXXXX", "6D00", "The card does not know the command", "Usually the application is not selected: after a reset none is.",
		"SELECT the application first. Or the firmware is older than the command.", "APDU-25", nil,
	},
	{
		"XXXXXXXX", "6E00", "Class not supported", "The application is not selected, or the class byte is that of another standard.",
		"SELECT the application first.", "APDU-26", nil,
	},
	{"XXXXXXXX", "6F00", "The card failed", "Some defect of a firmware, or of this program.", "See the known defects of the firmware.", "APDU-39", nil},
}

// refused is said of commands of which no more is known, so that what stands under "what
// just happened" is never an older failure. Clients read much that is not there, so it is not
// said of reads.
var refused = explanation{
	"XXXXXXXX", "6XXX", "The card refused the command", "No usual cause is known here.",
	"The status word has a meaning: open the command to see it beside its bytes.", "APDU-39", nil,
}

// fits reports whether hexadecimal digits have a pattern's, in which X is any.
func fits(digits, pattern string) bool {
	if len(digits) != len(pattern) {
		return false
	}
	for i := range len(digits) {
		if pattern[i] != 'X' && pattern[i] != digits[i] {
			return false
		}
	}
	return true
}

// meant reports whether a pattern of headers means a command. That of INITIALIZE DEVICE does
// not mean what has its instruction and no PIN: the card manager's INITIALIZE UPDATE, and a
// question for memory.
func meant(e view.Event, header string) bool {
	return e.Header != nil && fits(*e.Header, header) && (header[2:4] != "50" || e.AboutPIN())
}

// explain is what an event usually comes from; nil for one that is no failure, or of which
// nothing is known.
func explain(e view.Event) *explanation {
	if e.Kind != view.Command || e.Query || e.Header == nil || e.SW == nil {
		return nil
	}
	if e.Command != nil && strings.HasSuffix(*e.Command, "(status)") {
		return nil // clients ask whether there is such a thing
	}
	for i := range explanations {
		x := &explanations[i]
		if meant(e, x.header) && fits(*e.SW, x.sw) {
			return x
		}
	}
	if !e.Reads() && *e.SW >= "63" && *e.SW < "70" {
		return &refused
	}
	return nil
}
