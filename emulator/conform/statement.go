package conform

// Statement is what a card says of itself: the conformance statement, from which it
// follows which rules can be judged.
type Statement struct {
	// Fresh reports whether each rule gets a card of its own, made for it.
	Fresh bool `json:"fresh"`
	// Serial is the serial number, as DENK0404144; ATR is in hexadecimal digits.
	Serial string `json:"serial"`
	ATR    string `json:"atr"`
	// Firmware is the version, as 4.1.
	Firmware string `json:"firmware"`
	State    State  `json:"state"`
	// Options are those of INITIALIZE DEVICE.
	Options uint16 `json:"options"`
	// UserPIN and SOPIN are the tries left.
	UserPIN Counter `json:"user_pin"`
	SOPIN   Counter `json:"so_pin"`
	// Curves are the names of the curves that the firmware has, and RSA the lengths
	// of RSA keys in bits.
	Curves []string `json:"curves"`
	RSA    []int    `json:"rsa"`
}

// Counter is a retry counter as far as the card tells it.
type Counter struct {
	Known bool `json:"known"`
	Left  int  `json:"left"`
}
