package apdu

import (
	"fmt"
	"strconv"
)

// SW is a status word (ISO 7816-4 §5.6). It is an error, so that code running
// a command can return the word it wants the sender to see; OK is a word like
// any other and must not be returned as an error.
type SW uint16

// Status words of the card, named by what they mean there (APDU-39).
const (
	OK                      SW = 0x9000
	KeyAuthenticated        SW = 0x9001 // the key asked for has already authenticated
	EndOfFile               SW = 0x6282 // fewer bytes than asked for, and here they are
	VerificationFailed      SW = 0x6300 // a signature is wrong, or too few keys have authenticated
	ExecutionFailed         SW = 0x6400 // nothing was changed
	MemoryFailure           SW = 0x6581 // the change could not be stored
	WrongLength             SW = 0x6700
	ChannelNotSupported     SW = 0x6881 // logical channels
	SecurityStatus          SW = 0x6982 // not logged in
	AuthenticationBlocked   SW = 0x6983 // no tries left
	ReferenceDataNotUsable  SW = 0x6984 // transport PIN to be changed, or key used up
	ConditionsNotSatisfied  SW = 0x6985
	CommandNotAllowed       SW = 0x6986 // no current file
	MissingSMObject         SW = 0x6987
	WrongSMObject           SW = 0x6988
	WrongData               SW = 0x6A80
	FunctionNotSupported    SW = 0x6A81 // the algorithm is unknown or not permitted for the key
	NotFound                SW = 0x6A82 // file, key or application
	NotEnoughMemory         SW = 0x6A84
	IncorrectP1P2           SW = 0x6A86
	ReferenceNotFound       SW = 0x6A88 // PIN, key domain or key name
	AlreadyExists           SW = 0x6A89
	WrongOffset             SW = 0x6B00
	InstructionNotSupported SW = 0x6D00
	ClassNotSupported       SW = 0x6E00
	Internal                SW = 0x6F00
	KeyTypeNotSupported     SW = 0x9484 // the card manager's alone, as the next
	WrongKeyCheckValue      SW = 0x9485
)

const (
	triesWord SW = 0x63C0
	triesMask SW = 0x000F
)

// TriesLeft is 63Cx: verification failed and n more tries are left. The word
// has room for 0 to 15; n is clipped to that.
func TriesLeft(n int) SW {
	return triesWord | SW(min(max(n, 0), int(triesMask)))
}

// Tries returns the number of tries left that a word 63Cx reports; ok is
// false for any other word.
func (sw SW) Tries() (n int, ok bool) {
	if sw&^triesMask != triesWord {
		return 0, false
	}
	return int(sw & triesMask), true
}

// String returns the word as four hexadecimal digits, such as "6A82".
func (sw SW) String() string { return fmt.Sprintf("%04X", uint16(sw)) }

// Error says in words what the status word means, with the word itself in
// brackets.
func (sw SW) Error() string {
	return fmt.Sprintf("%s (%04X)", sw.Meaning(), uint16(sw))
}

// Meaning is the words of Error without the status word behind them.
func (sw SW) Meaning() string {
	if n, ok := sw.Tries(); ok {
		if n == 1 {
			return "verification failed, 1 try left"
		}
		return "verification failed, " + strconv.Itoa(n) + " tries left"
	}
	if m, ok := meanings[sw]; ok {
		return m
	}
	// ISO 7816-4 table 5: what the first byte alone says.
	switch sw >> 8 {
	case 0x61:
		return "more response data is waiting"
	case 0x62:
		return "warning, nothing was changed"
	case 0x63:
		return "warning, something was changed"
	case 0x64:
		return "execution failed, nothing was changed"
	case 0x65:
		return "execution failed, something was changed"
	case 0x66:
		return "execution failed for reasons of security"
	case 0x68:
		return "function of the class byte not supported"
	case 0x69:
		return "command not allowed"
	case 0x6A:
		return "wrong parameters"
	case 0x6C:
		return "wrong expected length"
	}
	return "unknown status word"
}

var meanings = map[SW]string{
	OK:                      "success",
	KeyAuthenticated:        "success, key is authenticated",
	EndOfFile:               "end of file reached",
	VerificationFailed:      "verification failed",
	MemoryFailure:           "memory failure",
	WrongLength:             "wrong length",
	ChannelNotSupported:     "logical channel not supported",
	SecurityStatus:          "security status not satisfied",
	AuthenticationBlocked:   "authentication method blocked",
	ReferenceDataNotUsable:  "reference data not usable",
	ConditionsNotSatisfied:  "conditions of use not satisfied",
	CommandNotAllowed:       "command not allowed, no current file",
	MissingSMObject:         "secure messaging object missing",
	WrongSMObject:           "secure messaging object wrong",
	WrongData:               "wrong data",
	FunctionNotSupported:    "function not supported",
	NotFound:                "file, key or application not found",
	NotEnoughMemory:         "not enough memory",
	IncorrectP1P2:           "incorrect P1 or P2",
	ReferenceNotFound:       "referenced data not found",
	AlreadyExists:           "already exists or still in use",
	WrongOffset:             "wrong offset",
	InstructionNotSupported: "instruction not supported",
	ClassNotSupported:       "class not supported",
	Internal:                "internal error",
	KeyTypeNotSupported:     "algorithm of a key not supported",
	WrongKeyCheckValue:      "key check value wrong",
}
