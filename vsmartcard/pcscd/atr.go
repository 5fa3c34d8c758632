package pcscd

// protocolsOf returns the transmission protocols that an ATR offers, none if
// it is not well-formed (ISO 7816-3 §8.2). Protocols other than T=0 and T=1
// are left out.
func protocolsOf(atr []byte) Protocol {
	if len(atr) < 2 || atr[0] != 0x3B && atr[0] != 0x3F {
		return 0
	}
	var offered Protocol
	historical := int(atr[1] & 0x0F)
	next := atr[1] >> 4 // which of TA, TB, TC and TD follow
	rest := atr[2:]
	named := false // a protocol; T=0 if none is
	for next != 0 {
		var last byte
		for ; next != 0; next &= next - 1 {
			if len(rest) == 0 {
				return 0
			}
			last, rest = rest[0], rest[1:]
			if next == 8 { // TD, the only one left
				break
			}
		}
		if next != 8 {
			break
		}
		named = true
		switch last & 0x0F {
		case 0:
			offered |= T0
		case 1:
			offered |= T1
		}
		next = last >> 4
	}
	if !named {
		offered = T0
	}
	if len(rest) < historical {
		return 0
	}
	return offered
}
