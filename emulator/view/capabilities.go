package view

// Capabilities is what a build of the program can do.
type Capabilities struct {
	Schema          int                  `json:"schema"`
	Version         string               `json:"version"`
	Platform        string               `json:"platform"` // "linux/amd64"
	DefaultFirmware string               `json:"default_firmware"`
	Firmware        []FirmwareCapability `json:"firmware"` // the oldest first
	Answers         []string             `json:"answers"`  // what `card new --answer` takes
	Defects         []string             `json:"defects"`  // what `card new --broken` takes
	Faults          []FaultCapability    `json:"faults"`
	Seals           []string             `json:"seals"`
	Reports         []string             `json:"reports"`
	Commands        []CommandCapability  `json:"commands"`
}

// FirmwareCapability is what a card with a firmware can do.
type FirmwareCapability struct {
	Version      string   `json:"version"`
	RSA          []int    `json:"rsa"` // lengths of keys in bits
	Curves       []string `json:"curves"`
	Algorithms   []string `json:"algorithms"`  // of keys without a list of their own
	KeyDomains   bool     `json:"key_domains"` // more than one DKEK, and XKEK
	KnownDefects []string `json:"known_defects"`
}

// FaultCapability is a fault of a reader or a card, and the settings it takes.
type FaultCapability struct {
	Name     string   `json:"name"`
	Settings []string `json:"settings"` // "realistic", or "after=" for one with a value
}

// CommandCapability is a command of the program, and what of it does not work on
// this system.
type CommandCapability struct {
	Name    string   `json:"name"`
	Works   bool     `json:"works"`
	Without []string `json:"without"` // flags, in words
}
