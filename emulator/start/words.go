package start

import (
	"cmp"
	"fmt"
	"strings"

	"hsmemu/applet"
	"hsmemu/emulator/broken"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/view"
	"hsmemu/pinstate"
)

// Words say what a new card is: the members of card.json, and the flags of `card new`.
// Each may be left out.
type Words struct {
	Firmware, Serial, Broken string
	Like                     []string // a situation, as view.ParseSituation reads it
	Answers                  []string // each as in NAME=SW
	Seed                     *uint64
	KeyPool, Blank           bool
}

// WordError says which word of a card cannot be: firmware, serial, broken, like or
// answers, as card.json calls it.
type WordError struct {
	Word string
	Err  error
}

// Error tells the word and what is wrong with it.
func (e *WordError) Error() string { return fmt.Sprintf("%s: %v", e.Word, e.Err) }

// Unwrap is what is wrong.
func (e *WordError) Unwrap() error { return e.Err }

// ContradictionError says that two firmware versions are asked for.
type ContradictionError struct{ Firmware, Like string }

// Error tells both.
func (e *ContradictionError) Error() string {
	return fmt.Sprintf("firmware=%s contradicts firmware %q", e.Like, e.Firmware)
}

// FirmwareError says that there is no profile of a firmware.
type FirmwareError struct{ Firmware, Nearest string }

// Error tells the nearest one.
func (e *FirmwareError) Error() string {
	return fmt.Sprintf("there is none called %q, the nearest is %s", e.Firmware, e.Nearest)
}

// Order is what the words say together, to be made as it is: nothing of it is refused
// later but what chip.ErrSituation is about. Errors are of type *WordError; below it
// are *ContradictionError, *FirmwareError, chip.ErrSerial and broken.ErrUnknown.
func (w Words) Order() (statedir.Order, error) {
	o := statedir.Order{Seed: w.Seed, KeyPool: w.KeyPool, Order: chip.Order{Serial: w.Serial, Broken: w.Broken, Blank: w.Blank}}
	said := w.Firmware
	if len(w.Like) > 0 {
		like, firmware, err := view.ParseSituation(w.Like)
		if err == nil && firmware != "" && said != "" && firmware != said {
			err = &ContradictionError{said, firmware}
		}
		if err != nil {
			return o, &WordError{"like", err}
		}
		o.Like, said = &like, cmp.Or(firmware, said)
	}
	o.Firmware = cmp.Or(said, applet.DefaultFirmware)
	if _, known := applet.ProfileOf(o.Firmware); !known {
		return o, &WordError{"firmware", &FirmwareError{o.Firmware, applet.NearestFirmware(o.Firmware)}}
	}
	if err := o.CheckSerial(); err != nil {
		return o, &WordError{"serial", err}
	}
	if o.Broken != "" {
		if _, err := broken.Find(o.Broken); err != nil {
			return o, &WordError{"broken", err}
		}
	}
	var err error
	if o.Answers, err = applet.ParseAnswers(w.Answers); err != nil {
		return o, &WordError{"answers", err}
	}
	return o, nil
}

// ErrPIN says that something is no user PIN.
var ErrPIN = fmt.Errorf("it is %d to %d bytes", pinstate.MinPIN, pinstate.MaxPIN)

// ChoosePINs puts PINs of somebody's choice in the place of those of the documentation
// that a situation has: the SO-PIN, in hexadecimal digits, and the user PIN. Each is asked
// for where the situation has it, and nil is none. It returns in words which of the
// documentation's the card keeps, so that they can be told. Errors: conform.ErrSOPIN, ErrPIN,
// and those of so and user.
func ChoosePINs(s *chip.Situation, so, user func() ([]byte, error)) (documented string, err error) {
	if s == nil || !s.Initialised {
		return "", nil
	}
	var kept []string
	chosen, err := so()
	switch {
	case err != nil:
		return "", err
	case chosen == nil:
		kept = append(kept, fmt.Sprintf("the SO-PIN %X", []byte(s.SOPIN)))
	default:
		if s.SOPIN, err = conform.ParseSOPIN(chosen); err != nil {
			return "", err
		}
	}
	if s.UserPIN == nil {
		return strings.Join(kept, ""), nil
	}
	if chosen, err = user(); err != nil {
		return "", err
	}
	switch {
	case chosen == nil:
		kept = append(kept, fmt.Sprintf("the user PIN %s", []byte(s.UserPIN)))
	case len(chosen) < pinstate.MinPIN || len(chosen) > pinstate.MaxPIN:
		return "", ErrPIN
	default:
		s.UserPIN = chosen
	}
	return strings.Join(kept, " and "), nil
}
