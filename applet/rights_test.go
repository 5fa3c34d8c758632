package applet_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
)

// Who may read, write and delete which file: FILE-1 to FILE-7.
//
// Shows FILE-2, FILE-3 and FILE-4.
func TestProtocol_FileRights(t *testing.T) {
	t.Parallel()
	for _, f := range []struct {
		id, what            string
		read, write, remove string // public, user, never, unknown
	}{
		{"2F 02", "device certificate", "public", "never", "never"},
		{"2F 03", "label", "public", "user", "user"},
		{"2F 10", "scratch", "user", "user", "user"},
		{"2F 04", "another 2F", "unknown", "unknown", "unknown"},
		{"C4 01", "key description", "public", "user", "user"},
		{"C8 00", "certificate description", "public", "user", "user"},
		{"C9 00", "data description", "public", "user", "user"},
		{"CA FF", "CA certificate", "public", "user", "user"},
		{"CB 01", "key meta data", "public", "user", "user"},
		{"CC 01", "key", "never", "never", "user"},
		{"CC 00", "device key", "never", "never", "never"},
		{"CD 00", "private data", "user", "user", "user"},
		{"CE 01", "certificate", "public", "user", "user"},
		{"CF FF", "public data", "public", "user", "user"},
		{"C5 01", "another prefix", "unknown", "unknown", "unknown"},
		{"D0 00", "a prefix above", "unknown", "unknown", "unknown"},
		{"3F 00", "master file", "unknown", "unknown", "unknown"},
		{"00 01", "a small number", "unknown", "unknown", "unknown"},
	} {
		t.Run("FILE-1 "+f.what, func(t *testing.T) {
			t.Parallel()
			tb := after(t, "4.1", setups["stock"])
			read := "00 B1 " + f.id + " Lc(54(0000)) 00 => "
			write := "00 D7 " + f.id + ` Lc(54(0000) 53("x")) => `
			remove := "00 E4 02 00 Lc(" + f.id + ") => "
			words := func(right string, unknown string) string {
				return map[string]string{"public": "9000", "user": "9000", "never": "6982", "unknown": unknown}[right]
			}
			denied := func(right, unknown string) string {
				if right == "user" {
					return "6982"
				}
				return words(right, unknown)
			}
			// With the user logged in: create, read, delete, and then it is gone.
			tb.run(t, write+words(f.write, "6A86"))
			if f.read == "user" || f.read == "public" {
				tb.run(t, read+"* 9000")
			} else {
				tb.run(t, read+words(f.read, "6A82"))
			}
			tb.run(t, remove+words(f.remove, "6A82"))
			// Without: what is readable stays so, nothing else goes.
			tb.run(t, write+words(f.write, "6A86"))
			tb.run(t, selectApplication)
			if f.read == "public" {
				tb.run(t, read+"* 9000")
			} else {
				tb.run(t, read+denied(f.read, "6A82"))
			}
			tb.run(t, write+"6982")
			tb.run(t, remove+"6982")
		})
	}
}

// "Always" in FILE-1 is in every state of the card.
//
// Shows CVC-23.
func TestProtocol_PublicFilesAreAlwaysReadable(t *testing.T) {
	t.Parallel()
	read := "\n00 B1 2F 02 Lc(54(0000)) 00 => {ef:*} 9000"
	play(t, []row{
		{"FILE-1 never initialised", "shipped", read},
		{"FILE-1 user PIN blocked", "blocked", read},
		{"FILE-1 SO-PIN blocked", "soblocked", read},
		{"FILE-1 transport PIN", "transport", read},
		{"FILE-1 keys as the only login", "keys", read},
		{"FILE-1 in a channel", "public", "sm on aes128" + read},
		{"FILE-1 label with the PIN blocked", "stock", again(3, wrongUser+" => *") + `00 B1 2F 03 Lc(54(0000)) 00 => "label" 9000`},
		{"FILE-1 certificate without login", "user", `00 D7 CE 01 Lc(54(0000) 53("certificate"))
			` + selectApplication + `
			00 B1 CE 01 Lc(54(0000)) 00 => "certificate" 9000`},
		{"FILE-45 a request is replaced by a shorter certificate", "user", lines(`00 46 01 00 Lcx(42("UTCA00001") {secp256r1} 5F20("UTKEY00001"))`,
			`00 D7 CE 01 Lc(54(0000) 53("certificate"))`, `00 B1 CE 01 Lc(54(0000)) 00 => "certificate" 9000`)},
		{"FILE-31 OpenSC deletes a key", "stock", lines(`00 D7 C4 01 Lc(54(0000) 53("description"))`, "00 E4 02 00 Lc(CC01)", "00 E4 02 00 Lc(C401)", "80 68 01 73 Lc(00) 00 => 6A88")},
		{"FILE-34 the number is free again", "stock", "00 E4 02 00 Lc(CC01)\n" + generate("01", "rsa1024")},
	})
}

// What INITIALIZE leaves behind: PIN-16 to PIN-18.
//
// Shows CVC-25.
func TestProtocol_AfterInitialise(t *testing.T) {
	t.Parallel()
	tb := after(t, "4.1", setups["stock"])
	for _, id := range []string{"C4 01", "C8 01", "C9 01", "CA 01", "CB 01", "CD 01", "CE 01", "CF 01", "2F 10"} {
		tb.run(t, "00 D7 "+id+` Lc(54(0000) 53("x"))`)
	}
	device := stored(t, tb.current().Durable().Device)
	ef := tb.current().File(0x2F02)
	tb.run(t, initialise("0001"))
	d := tb.current().Durable()
	require.Equal(t, device, stored(t, d.Device))
	require.Equal(t, []applet.File{{ID: 0x2F02, Data: ef}}, d.Files)
	require.Empty(t, d.Keys)
	require.Empty(t, d.Domains)
	require.Empty(t, d.Custodians)
}

// The documented capacities: FILE-40.
//
// Shows FILE-42.
func TestProtocol_Capacity(t *testing.T) {
	t.Parallel()
	play(t, []row{
		{"FILE-40 free memory of a fresh card", "public", "80 50 00 00 00 => 00 01 30 00 06 04 01 9000"},
		{"FILE-41 a card of the first generation", "public@1.2", "80 50 00 00 00 => 00 00 90 00 00 01 02 9000"},
	})
	for _, c := range []struct {
		firmware, template, le string
		least                  int // keys that a device holds as its maker says
	}{
		// With Le the request of a key is not kept on the card.
		{"4.1", "secp521r1", "le", 150},
		{"4.1", "rsa2048", "", 38},
		{"4.1", "rsa4096", "", 19},
		{"2.6", "rsa2048", "", 20},
		{"2.6", "secp256r1", "", 31},
	} {
		t.Run(fmt.Sprintf("FILE-40 %s on %s", c.template, c.firmware), func(t *testing.T) {
			t.Parallel()
			tb := after(t, c.firmware, setups["user"])
			made := 0
			for {
				tb.command(t, fmt.Sprintf(`00 46 %02X 00 Lcx(42("UTCA00001") {%s} 5F20("UTKEY00001")) %s`, made+1, c.template, c.le))
				if tb.current().Result.Event.SW != apdu.OK {
					break
				}
				made++
			}
			require.Equal(t, apdu.NotEnoughMemory, tb.current().Result.Event.SW)
			require.Empty(t, tb.current().Result.Commits)
			require.Len(t, tb.current().Durable().Keys, made)
			require.GreaterOrEqual(t, made, c.least)
		})
	}
	// 255 key numbers are fewer than the 300 keys of 256 bits there is room for.
	tb := after(t, "4.1", setups["user"])
	for id := 1; id <= 255; id++ {
		tb.run(t, fmt.Sprintf("00 48 %02X B2 Lc(91(10))", id))
	}
}
