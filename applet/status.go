package applet

import (
	"errors"

	"hsmemu/applet/apdu"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
	"hsmemu/pinstate"
)

// words gives each error of the packages below its status word. The first
// match decides.
var words = []struct {
	err error
	sw  apdu.SW
}{
	{pinstate.ErrUnset, apdu.ReferenceNotFound},
	{pinstate.ErrReference, apdu.ReferenceNotFound},
	{pinstate.ErrBlocked, apdu.AuthenticationBlocked},
	{pinstate.ErrTransport, apdu.ReferenceDataNotUsable},
	{pinstate.ErrLength, apdu.WrongLength},
	{pinstate.ErrRule, apdu.WrongData},
	{pinstate.ErrForbidden, apdu.ConditionsNotSatisfied},
	{pinstate.ErrKeysMissing, apdu.VerificationFailed},
	{keystore.ErrAlgorithm, apdu.FunctionNotSupported},
	{keystore.ErrCurve, apdu.FunctionNotSupported},
	{keystore.ErrParameters, apdu.FunctionNotSupported},
	{keystore.ErrExhausted, apdu.ReferenceDataNotUsable},
	{keystore.ErrNotReady, apdu.ConditionsNotSatisfied},
	{keystore.ErrComplete, apdu.ConditionsNotSatisfied},
	{keystore.ErrDomain, apdu.ConditionsNotSatisfied},
	{keystore.ErrLength, apdu.WrongLength},
	{keystore.ErrData, apdu.WrongData},
	{keystore.ErrKCV, apdu.WrongData},
	{keystore.ErrKey, apdu.WrongData},
	{curve.ErrUnknown, apdu.FunctionNotSupported},
	{curve.ErrPoint, apdu.WrongData},
	{curve.ErrScalar, apdu.WrongData},
}

// status is the one place that turns an error into a status word of a firmware.
// What it does not know is a defect of ours and answered as an internal error.
func (p *Profile) status(err error) apdu.SW {
	var sw apdu.SW
	var wrong pinstate.Wrong
	switch {
	case err == nil:
		return apdu.OK
	case errors.As(err, &sw):
		return sw
	case errors.As(err, &wrong):
		if wrong.Left == 0 {
			return p.LastTry
		}
		return apdu.TriesLeft(int(wrong.Left))
	}
	for _, w := range words {
		if errors.Is(err, w.err) {
			return w.sw
		}
	}
	return apdu.Internal
}
