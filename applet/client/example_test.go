package client_test

import (
	"context"
	"fmt"

	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
	"hsmemu/pinstate"
)

// A program sets up a card, makes a key, signs, and verifies where the key was
// made. With a handle of package pcscd in place of the emulated card it does
// the same with a SmartCard-HSM in a reader.
func Example() {
	ctx := context.Background()
	card, err := emulator.NewCard(chip.Order{Serial: "DENK0404144"}, emulator.System())
	if err != nil {
		panic(err)
	}
	c := client.New(card)
	info, _ := c.Select(ctx)
	fmt.Printf("firmware %d.%d\n", info.Major, info.Minor)

	pin, so := []byte("648219"), []byte("57621880")
	_ = c.Initialise(ctx, client.Setup{Options: pinstate.OptionResetEnabled, SOPIN: so, PIN: pin, Tries: 3})
	if err := c.Login(ctx, pin); err != nil {
		panic(err)
	}
	p256, _ := curve.ByName("secp256r1")
	request, _ := c.GenerateEC(ctx, 1, p256, client.KeySpec{Holder: "DENK040414400001"})
	signature, _ := c.Sign(ctx, 1, keystore.ECDSASHA256, []byte("pay 100 to Alice"))
	fmt.Println("a signature:", len(signature) > 64)

	device, _ := c.Device(ctx)
	proof, err := cvc.Attest(request.Raw, device.Bytes(), cvc.KnownRoots())
	fmt.Println("made in", proof.Device.CHR.Holder(), "under", proof.Root.CHR, err)
	fmt.Println(c.Leave(ctx))
	// Output:
	// firmware 4.1
	// a signature: true
	// made in DENK0404144 under UTSRCAEM100001 <nil>
	// <nil>
}
