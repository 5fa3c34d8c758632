// Package capability says what this build of the program can do, so that test
// suites can ask before they rely on it: firmware versions with their curves,
// key lengths and algorithms, faults, defects, seals, report formats, and the
// commands, with what is missing on which system. All of it comes from the tables
// by which the program works.
package capability

import (
	"errors"
	"fmt"
	"slices"

	"hsmemu/applet"
	"hsmemu/emulator"
	"hsmemu/emulator/broken"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/view"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
	"hsmemu/keystore/seal"
)

// The systems that a part of the program is missing on, as the Go tool calls them.
var (
	ownService = []string{"darwin", "windows"}
	noTPM      = []string{"freebsd", "openbsd", "netbsd"}
)

// Lack is something that does not work on some systems.
type Lack struct {
	// Command is what to type, and Part the flags without which it works; empty
	// where the whole command does not.
	Command, Part string
	// Systems are those without it, and Why is the reason in words.
	Systems []string
	Why     string
}

const (
	whyOwn = "programs have to use pcsc-lite, as on Linux and FreeBSD, and not the system's own smart-card service"
	whyTPM = "no TPM can be reached there"
)

var lacks = []Lack{
	{"exec", "", ownService, whyOwn},
	{"conform client", "", ownService, whyOwn},
	{"lesson", "", ownService, whyOwn},
	{"run", "without --vpcd, --vpcd-listen or --ram", ownService, whyOwn},
	{"conform", "--reader", ownService, whyOwn},
	{"ram", "--reader", ownService, whyOwn},
	{"attest", "--reader", ownService, whyOwn},
	{"card authenticate", "--reader", ownService, whyOwn},
	{"status", "--socket", ownService, whyOwn},
	{"card new", "--seal tpm", noTPM, whyTPM},
	{"card copy", "--seal tpm", noTPM, whyTPM},
	{"card import", "--seal tpm", noTPM, whyTPM},
	{"card reseal", "--seal tpm", noTPM, whyTPM},
	{"portal serve", "--seal tpm", noTPM, whyTPM},
}

// Lacks lists what does not work everywhere.
func Lacks() []Lack { return slices.Clone(lacks) }

// lacking is what of a command does not work on a system.
func lacking(command, system string) (list []Lack) {
	for _, l := range lacks {
		if l.Command == command && slices.Contains(l.Systems, system) {
			list = append(list, l)
		}
	}
	return list
}

// ErrOwnService is a command that cannot serve programs on a system whose own
// smart-card service they use, which nothing can stand in for.
var ErrOwnService = errors.New("programs use the system's own smart-card service")

type ownServiceError struct{ command, system string }

func (e *ownServiceError) Error() string {
	return fmt.Sprintf("%s needs programs that use pcsc-lite, as on Linux and FreeBSD: those of %s speak to its own smart-card service", e.command, e.system)
}

func (e *ownServiceError) Is(target error) bool { return target == ErrOwnService }

// Check says why a command cannot serve programs through a private daemon on a system.
// Error: ErrOwnService.
func Check(command, system string) error {
	if !without(command, system) {
		return nil
	}
	return &ownServiceError{command, map[string]string{"darwin": "macOS", "windows": "Windows"}[system]}
}

// without reports whether a whole command does not work on a system, or, where it
// has another way, what it does not do.
func without(command, system string) bool {
	return slices.ContainsFunc(lacking(command, system), func(l Lack) bool { return l.Why == whyOwn && !flag(l.Part) })
}

// flag reports whether a part is asked for by a flag.
func flag(part string) bool { return len(part) > 0 && part[0] == '-' }

// Of is what this build can do on a system, with these commands.
func Of(program view.Program, system string, commands []string) view.Capabilities {
	c := view.Capabilities{
		Schema: view.Schema, Version: program.Version, Platform: program.Platform,
		DefaultFirmware: applet.DefaultFirmware, Defects: broken.Names(), Reports: conform.Formats(),
		Firmware: []view.FirmwareCapability{}, Faults: []view.FaultCapability{}, Commands: []view.CommandCapability{},
		Seals: seal.Kinds(), Answers: applet.AnswerWords(),
	}
	if slices.Contains(noTPM, system) {
		c.Seals = slices.DeleteFunc(c.Seals, func(kind string) bool { return kind == seal.KindTPM })
	}
	for _, p := range applet.Profiles() {
		c.Firmware = append(c.Firmware, firmware(p))
	}
	for _, k := range emulator.FaultKinds() {
		c.Faults = append(c.Faults, view.FaultCapability{Name: k.Name, Settings: append([]string{}, k.Settings...)})
	}
	for _, name := range commands {
		one := view.CommandCapability{Name: name, Works: true, Without: []string{}}
		for _, l := range lacking(name, system) {
			if l.Part == "" {
				one.Works = false
			} else {
				one.Without = append(one.Without, l.Part)
			}
		}
		c.Commands = append(c.Commands, one)
	}
	return c
}

// firmware is what a card of a profile can do.
func firmware(p applet.Profile) view.FirmwareCapability {
	f := view.FirmwareCapability{
		Version: p.Name, RSA: slices.Clone(p.RSA), Curves: []string{}, Algorithms: []string{}, KeyDomains: p.KeyDomains,
		KnownDefects: append([]string{}, p.Defects()...),
	}
	for _, c := range curve.All() {
		if c.Bits() <= p.MaxCurve {
			f.Curves = append(f.Curves, c.Name())
		}
	}
	kinds := []keystore.Kind{keystore.RSA, keystore.EC}
	if p.AES {
		kinds = append(kinds, keystore.AES)
	}
	for _, kind := range kinds {
		for _, a := range keystore.DefaultAlgorithms(kind) {
			if name := a.String(); !slices.Contains(p.Lacks, a) && !slices.Contains(f.Algorithms, name) {
				f.Algorithms = append(f.Algorithms, name)
			}
		}
	}
	return f
}
