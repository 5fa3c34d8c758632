package records_test

import (
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/store"
)

// A device that is made elsewhere costs a licence of the current issuer and has a name
// that is never given again; and where nothing may be taken, nothing is.
func TestStore_Appoint(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "portal")
	options := records.Options{Now: time.Now}
	s, err := records.Open(folder, options)
	require.NoError(t, err)
	left := func() int {
		books, err := s.Ledger().Load("")
		require.NoError(t, err)
		return books.Authority.Issuers[0].Licences
	}
	issuer, name, err := s.Appoint(t.Context(), "")
	require.NoError(t, err)
	require.Regexp(t, `^DENK99\d{5}00000$`, string(name))
	require.Equal(t, "UTDICAEM02", issuer.Certificate.CHR.Holder())
	require.NoError(t, issuer.Certificate.Verify(cvc.EmulatorRoot().Certificate.Key))
	require.Equal(t, 999, left())
	_, name, err = s.Appoint(t.Context(), "DENK0404144")
	require.NoError(t, err)
	require.Equal(t, cvc.Name("DENK040414400000"), name)
	require.Equal(t, 998, left())

	require.NoError(t, s.Close()) // it is durable
	s, err = records.Open(folder, options)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	_, _, err = s.Appoint(t.Context(), "DENK0404144")
	require.ErrorIs(t, err, portal.ErrNameGiven)
	require.Equal(t, 998, left())
	require.NoError(t, s.Ledger().Change("", func(b *portal.Books) error {
		b.Authority.Issuers[0].Ready = false
		return nil
	}))
	_, _, err = s.Appoint(t.Context(), "")
	var refused *portal.Refusal
	require.ErrorAs(t, err, &refused)
	require.Equal(t, portal.IssuerNotReady, refused.Reason)
	require.Equal(t, 998, left())
	require.NoError(t, s.Read(t.Context(), func(tx *records.Tx) error {
		events, err := tx.Events(10)
		require.NoError(t, err)
		require.Len(t, events, 2)
		require.Equal(t, "certify new card DENK0404144 by UTDICAEM02", events[0].Action+" "+events[0].Object+" "+events[0].Detail)
		return nil
	}))
}

// The records of a folder certify while nobody has them open.
func TestCertify(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "portal")
	options := records.Options{Now: time.Now}
	_, _, err := records.Certify(t.Context(), folder, options, "")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoDirExists(t, folder)
	s, err := records.Open(folder, options)
	require.NoError(t, err)
	_, _, err = records.Certify(t.Context(), folder, options, "")
	require.ErrorIs(t, err, store.ErrLocked)
	require.NoError(t, s.Close())
	issuer, serial, err := records.Certify(t.Context(), folder, options, "")
	require.NoError(t, err)
	require.Regexp(t, `^DENK99\d{5}$`, serial)
	require.Equal(t, "UTDICAEM02", issuer.Certificate.CHR.Holder())
	for _, want := range []error{nil, portal.ErrNameGiven} {
		_, _, err = records.Certify(t.Context(), folder, options, "DENK0404144")
		require.ErrorIs(t, err, want)
	}
}

// Who only wants what is there begins nothing.
func TestOpen_Existing(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "portal")
	_, err := records.Open(folder, records.Options{Now: time.Now, Existing: true})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoDirExists(t, folder)
}
