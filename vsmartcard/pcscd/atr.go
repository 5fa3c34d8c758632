package pcscd

// protocolsOf returns the transmission protocols that an ATR offers, none if
// it is not well-formed (ISO 7816-3 §8.2) or names another protocol than T=0 and
// T=1 first. In specific mode, which TA2 tells, there is one. As in pcscd,
// nothing else is asked of an ATR.
func protocolsOf(atr []byte) Protocol {
	if len(atr) < 2 || atr[0] != 0x3B && atr[0] != 0x3F {
		return 0
	}
	var offered Protocol
	historical := int(atr[1] & 0x0F)
	next := atr[1] >> 4 // which of TA, TB, TC and TD follow
	rest := atr[2:]
	for group := 1; next != 0; group++ {
		follow := next
		next = 0
		specific := -1
		for bit := byte(1); bit <= 8; bit <<= 1 {
			if follow&bit == 0 {
				continue
			}
			if len(rest) == 0 {
				return 0
			}
			b := rest[0]
			rest = rest[1:]
			switch {
			case bit == 1 && group == 2:
				specific = int(b & 0x0F)
			case bit == 8:
				if group == 1 && b&0x0F > 1 {
					return 0
				}
				offered |= transmission(int(b & 0x0F))
				next = b >> 4
			}
		}
		switch {
		case specific > 1:
			return offered
		case specific >= 0:
			offered = transmission(specific)
		}
	}
	if offered == 0 {
		offered = T0
	}
	if len(rest) < historical {
		return 0
	}
	return offered
}

// transmission is the protocol T=t, 0 for others than T=0 and T=1.
func transmission(t int) Protocol {
	switch t {
	case 0:
		return T0
	case 1:
		return T1
	}
	return 0
}
