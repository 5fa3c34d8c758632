package pinstate

import (
	"fmt"
	"strings"
)

// Options are the option bytes of INITIALIZE DEVICE, two bytes big-endian.
// Bits without a name are kept and reported but have no effect.
type Options uint16

// The options that have an effect.
const (
	OptionResetEnabled Options = 0x0001 // the SO-PIN may reset the user PIN
	OptionTransportPIN Options = 0x0002 // the first user PIN must be changed before use
	OptionSessionPIN   Options = 0x0004 // session PINs may be drawn
	OptionReplaceKeys  Options = 0x0008 // registered public keys may be replaced
	OptionPINAndKeys   Options = 0x0010 // a login needs the PIN and public keys
	OptionResetOnly    Options = 0x0020 // the SO-PIN resets the counter but sets no PIN
)

// Has reports whether all the bits of some are set.
func (o Options) Has(some Options) bool { return o&some == some }

// String names the options in words, separated by commas.
func (o Options) String() string {
	names := [...]struct {
		bit  Options
		name string
	}{
		{OptionResetEnabled, "reset with SO-PIN"},
		{OptionTransportPIN, "transport PIN"},
		{OptionSessionPIN, "session PIN"},
		{OptionReplaceKeys, "replaceable public keys"},
		{OptionPINAndKeys, "PIN and public keys"},
		{OptionResetOnly, "reset of the counter only"},
	}
	var words []string
	for _, n := range names {
		if o.Has(n.bit) {
			words = append(words, n.name)
			o &^= n.bit
		}
	}
	if o != 0 {
		words = append(words, fmt.Sprintf("unknown %04X", uint16(o)))
	}
	if words == nil {
		return "none"
	}
	return strings.Join(words, ", ")
}
