package applet

import (
	"slices"

	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/tlv"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
)

// Data objects of key generation (BSI TR-03110 part 3, and the vendor's own).
const (
	tagAuthority  tlv.Tag = 0x42
	tagHolder     tlv.Tag = 0x5F20
	tagPublicKey  tlv.Tag = 0x7F49
	tagOuter      tlv.Tag = 0x45
	tagExtensions tlv.Tag = 0x65
	tagOID        tlv.Tag = 0x06
)

// maxName is the longest certificate holder reference.
const maxName = 16

// attributes is what both generation commands say of a new key beside its
// kind.
type attributes struct {
	uses       keystore.Uses
	algorithms []keystore.Algorithm
	domain     byte
	// named tells that the command named a key domain.
	named bool
}

func parseAttributes(list tlv.List) (a attributes, err error) {
	if n, ok := list.Find(apdu.KeyUses); ok {
		v, valid := n.Uint()
		if !valid || len(n.Value) < 1 || len(n.Value) > 4 {
			return a, apdu.WrongData
		}
		a.uses = keystore.Uses{Limited: true, Left: uint32(v)}
	}
	if n, ok := list.Find(apdu.KeyAlgorithms); ok {
		a.algorithms = algorithmList(n.Value)
	}
	if n, ok := list.Find(apdu.KeyDomain); ok {
		if len(n.Value) != 1 {
			return a, apdu.WrongData
		}
		a.domain, a.named = n.Value[0], true
	}
	return a, nil
}

// newKey parses the data of a generation command for the key in P1 and checks
// that this key may be made.
func (t *tx) newKey(c apdu.Command) (tlv.List, attributes, error) {
	t.aboutKey(c.P1)
	if c.P1 == 0 {
		return nil, attributes{}, apdu.IncorrectP1P2
	}
	list, err := tlv.ParseBER(c.Data)
	if err != nil {
		return nil, attributes{}, apdu.WrongData
	}
	a, err := parseAttributes(list)
	if err != nil {
		return nil, attributes{}, err
	}
	return list, a, t.checkDomain(a)
}

// checkDomain refuses a new key whose key domain does not exist, or whose DKEK
// still waits for shares: the owner would believe that this DKEK covers the key.
func (t *tx) checkDomain(a attributes) error {
	domain := t.domain(a.domain)
	switch {
	case a.named && domain.IsZero() && (len(t.d.Domains) > 0 || a.domain != 0):
		return apdu.ReferenceNotFound
	case domain.Outstanding() > 0:
		return apdu.ConditionsNotSatisfied
	}
	return nil
}

func (a attributes) give(k keystore.Key) keystore.Key {
	k.Uses, k.Algorithms, k.Domain = a.uses, a.algorithms, a.domain
	return k
}

// generateKeyPair is GENERATE ASYMMETRIC KEY PAIR: a new key in P1, replacing
// one of the same number, and a request for its certificate, signed by the key
// itself and countersigned by the device key or the key in P2. Where no answer
// is expected the request is stored beside the key.
func generateKeyPair(t *tx, c apdu.Command) ([]byte, error) {
	list, a, err := t.newKey(c)
	if err != nil {
		return nil, err
	}
	stated, err := clientExtensions(list)
	if err != nil {
		return nil, err
	}
	by, err := t.countersigner(c.P2, list)
	if err != nil {
		return nil, err
	}
	k, scheme, err := t.generate(list)
	if err != nil {
		return nil, err
	}
	request, err := t.request(list, stated, k, scheme, a)
	if err != nil {
		return nil, err
	}
	authenticated, err := request.Countersign(by.name, by.scheme, by.sign)
	if err != nil {
		return nil, err
	}
	if err := t.putKey(c.P1, a.give(k)); err != nil {
		return nil, err
	}
	t.aboutKey(c.P1)
	if c.Ne == 0 {
		return nil, t.putFile(pkcs15.File(pkcs15.PrefixCertificate, c.P1), authenticated.Raw)
	}
	return authenticated.Raw, nil
}

// generate makes the key that a public key template asks for.
func (t *tx) generate(list tlv.List) (keystore.Key, cvc.Scheme, error) {
	node, ok := list.Find(tagPublicKey)
	if !ok {
		return keystore.Key{}, 0, apdu.WrongData
	}
	parts, err := tlv.ParseBER(node.Value)
	if err != nil {
		return keystore.Key{}, 0, apdu.WrongData
	}
	oid, ok := parts.Find(tagOID)
	if !ok {
		return keystore.Key{}, 0, apdu.WrongData
	}
	scheme, ok := cvc.SchemeByOID(oid.Value)
	if !ok {
		return keystore.Key{}, 0, apdu.FunctionNotSupported
	}
	if scheme.RSA() {
		k, err := t.generateRSA(parts)
		return k, scheme, err
	}
	k, err := t.generateEC(parts)
	return k, scheme, err
}

func (t *tx) generateRSA(parts tlv.List) (keystore.Key, error) {
	exponent, ok := parts.Find(0x82)
	if !ok {
		exponent.Value = []byte{1, 0, 1} // 65537, as clients that name none expect
	}
	size, sized := parts.Find(0x02)
	bits, valid := size.Uint()
	if !sized || !valid {
		return keystore.Key{}, apdu.WrongData
	}
	if bits > 1<<16 || !slices.Contains(t.profile.RSA, int(bits)) {
		return keystore.Key{}, apdu.FunctionNotSupported
	}
	return keystore.GenerateRSA(t.env.RSA, int(bits), exponent.Value)
}

func (t *tx) generateEC(parts tlv.List) (keystore.Key, error) {
	var p curve.Parameters
	for _, want := range []struct {
		tag tlv.Tag
		to  *[]byte
	}{{0x81, &p.P}, {0x82, &p.A}, {0x83, &p.B}, {0x84, &p.G}, {0x85, &p.N}} {
		n, ok := parts.Find(want.tag)
		if !ok {
			return keystore.Key{}, apdu.WrongData
		}
		*want.to = n.Value
	}
	known, err := curve.ByParameters(p)
	if err != nil {
		return keystore.Key{}, err
	}
	if known.Bits() > t.profile.MaxCurve {
		return keystore.Key{}, apdu.FunctionNotSupported
	}
	return keystore.GenerateEC(t.env.Rand, known)
}

// request is the certificate request of a new key, signed by it. The names are
// the client's; where it names no authority the holder stands for it.
func (t *tx) request(list tlv.List, stated cvc.Extensions, k keystore.Key, scheme cvc.Scheme, a attributes) (cvc.Request, error) {
	holder, ok := list.Find(tagHolder)
	if !ok || len(holder.Value) == 0 || len(holder.Value) > maxName {
		return cvc.Request{}, apdu.WrongData
	}
	body := cvc.RequestBody{
		CAR: cvc.Name(holder.Value), CHR: cvc.Name(holder.Value), Key: template(k, scheme), Extensions: stated,
	}
	if n, ok := list.Find(tagAuthority); ok {
		if len(n.Value) == 0 || len(n.Value) > maxName {
			return cvc.Request{}, apdu.WrongData
		}
		body.CAR = cvc.Name(n.Value)
	}
	if domain := t.domain(a.domain); domain.XKEK() && slices.Contains(a.algorithms, keystore.ECDHExchange) {
		body.Extensions = body.Extensions.With(cvc.KeyDomainUID, domain.UID())
	}
	return body.Sign(t.signer(k))
}

// clientExtensions are those that the client wants in the request. The
// identifier of a key domain is not the client's to state: countersigned for
// one, it would make a member of a group out of a device that nobody let in.
func clientExtensions(list tlv.List) (cvc.Extensions, error) {
	n, ok := list.Find(tagExtensions)
	if !ok {
		return nil, nil
	}
	stated := cvc.Extensions(n.Value)
	if _, forged := stated.Find(cvc.KeyDomainUID); forged || stated.Check() != nil {
		return nil, apdu.WrongData
	}
	return stated, nil
}

// template is the public half of a key in the form of certificates.
func template(k keystore.Key, s cvc.Scheme) cvc.PublicKey {
	if k.Kind() == keystore.EC {
		return cvc.NewEC(s, k.ECPublic())
	}
	n, e := k.RSAPublic()
	return cvc.NewRSA(s, n, e)
}

// signatures gives the algorithm of the card for each scheme of certificates.
var signatures = map[cvc.Scheme]keystore.Algorithm{
	cvc.RSASHA1: keystore.RSASignSHA1, cvc.RSASHA256: keystore.RSASignSHA256, cvc.RSASHA512: keystore.RSASignSHA512,
	cvc.PSSSHA1: keystore.RSAPSSSHA1, cvc.PSSSHA256: keystore.RSAPSSSHA256, cvc.PSSSHA512: keystore.RSAPSSSHA512,
	cvc.ECDSASHA1: keystore.ECDSASHA1, cvc.ECDSASHA224: keystore.ECDSASHA224, cvc.ECDSASHA256: keystore.ECDSASHA256,
	cvc.ECDSASHA384: keystore.ECDSASHA384, cvc.ECDSASHA512: keystore.ECDSASHA512,
}

// signer lets a key sign certificates and requests.
func (t *tx) signer(k keystore.Key) cvc.Signer {
	return func(s cvc.Scheme, message []byte) ([]byte, error) {
		signature, err := k.Sign(t.nonceFor(k), signatures[s], message)
		if err != nil || k.Kind() != keystore.EC {
			return signature, err
		}
		parsed, err := k.Curve().ParseDER(signature)
		if err != nil {
			return nil, err
		}
		return parsed.Plain(), nil
	}
}

// countersigner is the key that vouches for a new one.
type countersigner struct {
	name   cvc.Name
	scheme cvc.Scheme
	sign   cvc.Signer
}

// countersigner finds the key in P2: the device key, or a key of the user whose
// name the command has to give. A user key's list and counter apply.
func (t *tx) countersigner(id byte, list tlv.List) (countersigner, error) {
	if id == 0 {
		return countersigner{name: cvc.Name(t.d.Device.Name), scheme: cvc.ECDSASHA256, sign: t.signer(t.d.Device.Key)}, nil
	}
	if _, exists := t.d.Keys[id]; !exists {
		return countersigner{}, apdu.ReferenceNotFound
	}
	outer, ok := list.Find(tagOuter)
	if !ok || len(outer.Value) == 0 || len(outer.Value) > maxName {
		return countersigner{}, apdu.WrongData
	}
	scheme := cvc.RSASHA256
	if t.d.Keys[id].Kind() == keystore.EC {
		scheme = cvc.ECDSASHA256
	}
	subject := t.subject
	k, err := t.use(id, signatures[scheme])
	t.subject = subject
	return countersigner{name: cvc.Name(outer.Value), scheme: scheme, sign: t.signer(k)}, err
}

// symmetricBits gives the key length for P2 of GENERATE SYMMETRIC KEY.
var symmetricBits = map[byte]int{0xB0: 128, 0xB1: 192, 0xB2: 256}

// generateSymmetricKey is GENERATE SYMMETRIC KEY.
func generateSymmetricKey(t *tx, c apdu.Command) ([]byte, error) {
	_, a, err := t.newKey(c)
	if err != nil {
		return nil, err
	}
	k, err := keystore.GenerateAES(t.env.Rand, symmetricBits[c.P2])
	if err != nil {
		return nil, err
	}
	err = t.putKey(c.P1, a.give(k))
	t.aboutKey(c.P1)
	return nil, err
}
