// Package portal is the vendor's portal for cards as far as it concerns them: it
// looks at a card, decides whether its firmware may be updated, updates it and
// certifies the device that comes of it. It sees a card through command APDUs
// alone, wherever that is, and has no web page, no account and no file.
//
//	seen, err := portal.Inspect(ctx, card, rand.Reader)
//	done, err := portal.Update(ctx, card, portal.Order{Ledger: books, Rand: rand.Reader, Now: time.Now()})
//
// The rules are those that the vendor and users tell of
// (docs/protocol/update.md). How a card manager is spoken to is not public, so
// that part is this project's own, and the portal can update emulated cards only.
// Its root is the emulator's, whose key is published: no genuine device is below
// it, and what it certifies proves nothing.
package portal

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Version is that of a firmware.
type Version struct{ Major, Minor byte }

// newest are the newest versions of each generation. Each generation runs on a
// chip of its own, so there is no way from one to the next (UPDATE-9).
var newest = []Version{{1, 2}, {2, 6}, {3, 6}, {4, 1}}

// Newest is the newest version of a generation; false for a generation that the
// portal does not know.
func Newest(major byte) (Version, bool) {
	i := slices.IndexFunc(newest, func(v Version) bool { return v.Major == major })
	if i < 0 {
		return Version{}, false
	}
	return newest[i], true
}

// String is the version as users write it, "4.1".
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Compare is negative if v is older than w, 0 if they are the same, and positive
// if v is newer.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor))
}

// MarshalText writes the version as String does.
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText writes, and nothing else.
func (v *Version) UnmarshalText(text []byte) error {
	major, minor, _ := strings.Cut(string(text), ".")
	a, err := strconv.ParseUint(major, 10, 8)
	b, err2 := strconv.ParseUint(minor, 10, 8)
	if *v = (Version{byte(a), byte(b)}); errors.Join(err, err2) != nil || v.String() != string(text) {
		return fmt.Errorf("%q is no version of a firmware", text)
	}
	return nil
}
