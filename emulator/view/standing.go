package view

import (
	"crypto/x509"
	"time"

	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator/chip"
)

// Standing is what ends with the card's power.
type Standing struct {
	Selected bool // the application
	User, SO bool // logged in; SO-PIN verified
	Channel  bool // a secure channel is open
	Keys     int  // public keys that have authenticated
}

// StandingOf is what a card has besides what it keeps.
func StandingOf(s chip.State) Standing {
	l := s.Applet.Login
	return Standing{Selected: s.Selected, User: l.User, SO: l.SO, Channel: s.Applet.InChannel(), Keys: int(l.Keys)}
}

// Managed reports whether the card manager has the next command, or an application in
// production, which has the card manager's commands: no other is selected.
func Managed(s chip.State) bool {
	return !s.Selected || s.Durable().Manager.Stage == chip.Production
}

// CertificatesOf describes the certificates on a card on a day: those of the device,
// then those that clients keep beside keys, requests among them.
func CertificatesOf(d chip.Durable, day time.Time) []Certificate {
	list := []Certificate{}
	if f, is := d.Applet.File(pkcs15.FileDevice); is {
		if c, err := cvc.ParseChain(f.Data); err == nil {
			list = append(list, verifiable(c.Issuer, day), verifiable(c.Device, day))
		}
	}
	for _, f := range d.Applet.Files {
		if p := byte(f.ID >> 8); p != pkcs15.PrefixCertificate && p != pkcs15.PrefixCACertificate {
			continue
		}
		of := fileOf(f)
		one := Certificate{Role: of.Holds + ", file " + of.ID}
		if c, err := x509.ParseCertificate(f.Data); err == nil {
			one.Holder, one.Issuer, one.Key = c.Subject.String(), c.Issuer.String(), c.PublicKeyAlgorithm.String()
			one.From, one.To = c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly)
			one.ValidToday = !day.Before(c.NotBefore) && !day.After(c.NotAfter)
		} else if r, err := cvc.ParseAuthenticated(f.Data); err == nil {
			one.Holder, one.Issuer, one.Key = r.Request.CHR.String(), r.CAR.String(), r.Request.Key.String()
		} else {
			continue
		}
		list = append(list, one)
	}
	return list
}
