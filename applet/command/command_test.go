package command_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/command"
)

type row struct {
	command.Form[int]
	name string
}

type form = command.Form[int]

func newer(version int) bool { return version > 1 }

var table = []row{
	{form{INS: 0x52, P1: []byte{0}, Data: command.NoData}, "status"},
	{form{INS: 0x52, P1: []byte{0}, Data: command.SomeOf}, "import"},
	{form{INS: 0x52, P1: []byte{1}, P2: []byte{7}, Data: command.Size{Least: 1, Most: 2}, Feature: newer}, "create"},
	{form{INS: 0x2C, P1: []byte{0, 1}, P2: []byte{0x81}, OtherP2: apdu.ReferenceNotFound, Data: command.AnySize}, "reset"},
	{form{INS: 0x2C, P2: []byte{0x82}, Data: command.NoData}, "reset the other"},
	{form{INS: 0x78, Data: command.AnySize, Feature: newer}, "cipher"},
}

// Instruction before parameters before length: APDU-12, APDU-14.
func TestFind_FirstRowThatMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		version int
		command apdu.Command
		row     string
		err     error
	}{
		{"by no data", 1, apdu.Command{INS: 0x52, P2: 9}, "status", nil},
		{"by data", 1, apdu.Command{INS: 0x52, P2: 9, Data: []byte{1}}, "import", nil},
		{"by version", 2, apdu.Command{INS: 0x52, P1: 1, P2: 7, Data: []byte{1, 2}}, "create", nil},
		{"a form that an older one lacks", 1, apdu.Command{INS: 0x52, P1: 1, P2: 7, Data: []byte{1}}, "", apdu.IncorrectP1P2},
		{"a command that an older one lacks", 1, apdu.Command{INS: 0x78}, "", apdu.InstructionNotSupported},
		{"no such command", 2, apdu.Command{INS: 0x53}, "", apdu.InstructionNotSupported},
		{"other P1", 2, apdu.Command{INS: 0x52, P1: 2}, "", apdu.IncorrectP1P2},
		{"other P2", 2, apdu.Command{INS: 0x52, P1: 1, P2: 8, Data: []byte{1}}, "", apdu.IncorrectP1P2},
		{"other P2 that names a reference", 1, apdu.Command{INS: 0x2C, P1: 1, P2: 0x83}, "", apdu.ReferenceNotFound},
		{"other P1 of a row with such a P2", 1, apdu.Command{INS: 0x2C, P1: 2, P2: 0x81}, "", apdu.IncorrectP1P2},
		{"too little", 2, apdu.Command{INS: 0x52, P1: 1, P2: 7}, "", apdu.WrongLength},
		{"too much", 2, apdu.Command{INS: 0x52, P1: 1, P2: 7, Data: []byte{1, 2, 3}}, "", apdu.WrongLength},
		{"length after parameters", 1, apdu.Command{INS: 0x2C, P2: 0x82, Data: []byte{1}}, "", apdu.WrongLength},
		{"any", 2, apdu.Command{INS: 0x78, P1: 0xFF, P2: 0xFF, Data: make([]byte, 65535)}, "cipher", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := command.Find(table, c.version, c.command)
			if c.err != nil {
				require.Equal(t, c.err, err)
				require.Nil(t, r)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.row, r.name)
		})
	}
}
