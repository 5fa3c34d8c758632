package broken

import (
	"hsmemu/applet/apdu"
	"hsmemu/pinstate"
)

func ins(list ...byte) []byte { return list }

// defects is every defect: data, so that nobody has to look for them elsewhere.
var defects = []Defect{
	// The two counters.
	{
		Name: "compares-before-it-charges", Breaks: "PIN-7", Rule: "PIN-R22", step: comparesFirst, commands: pinCommands,
		Does: "Compares a PIN before the try is saved, and saves nothing before a right one is taken.",
		Gain: "Whoever cuts the power in time after a wrong PIN may guess as often as there is time for.",
	},
	{
		Name: "forgets-charge-on-power-cut", Breaks: "PIN-7", Rule: "PIN-R23", step: forgetsCharge, commands: pinCommands,
		Does: "Keeps the try that a wrong PIN has cost in memory alone, so that a loss of power gives it back.",
		Gain: "Whoever pulls the card out after each wrong PIN may guess without end.",
	},
	{
		Name: "so-counter-refills-on-select", Breaks: "PIN-1", Rule: "PIN-R58", step: refillOnSelect(so), commands: ins(apdu.InsSelect),
		Does: "Sets the counter of the SO-PIN to 15 when the application is selected.",
		Gain: "Any number of guesses at the SO-PIN, which sets a new user PIN and so opens the keys.",
	},
	{
		Name: "so-counter-refills-on-reset", Breaks: "PIN-1", Rule: "PIN-R59", reset: refillOnReset(so),
		Does: "Sets the counter of the SO-PIN to 15 at each reset.",
		Gain: "Any number of guesses at the SO-PIN, with a reset between them.",
	},
	{
		Name: "so-counter-refills-on-power-on", Breaks: "PIN-1", Rule: "PIN-R71", powerOn: refill(so),
		Does: "Sets the counter of the SO-PIN to 15 when the card is started from what it has saved.",
		Gain: "Any number of guesses at the SO-PIN, with a loss of power between them.",
	},
	{
		Name: "user-counter-refills-on-select", Breaks: "PIN-42", Rule: "PIN-R24", step: refillOnSelect(user), commands: ins(apdu.InsSelect),
		Does: "Sets the counter of the user PIN to its most when the application is selected.",
		Gain: "Any number of guesses at the user PIN.",
	},
	{
		Name: "user-counter-refills-on-reset", Breaks: "PIN-42", Rule: "PIN-R25", reset: refillOnReset(user),
		Does: "Sets the counter of the user PIN to its most at each reset.",
		Gain: "Any number of guesses at the user PIN, with a reset between them.",
	},
	{
		Name: "user-counter-refills-on-power-on", Breaks: "PIN-7", Rule: "PIN-R23", powerOn: refill(user),
		Does: "Sets the counter of the user PIN to its most when the card is started from what it has saved.",
		Gain: "Any number of guesses at the user PIN, with a loss of power between them.",
	},
	{
		Name: "wrong-length-costs-a-try", Breaks: "PIN-37", Rule: "PIN-R30", step: chargesLength, commands: ins(apdu.InsVerify),
		Does: "Spends a try for a PIN of another length than the right one.",
		Gain: "Programs that only probe block the PIN of its owner.",
	},
	{
		Name: "wrong-pin-costs-nothing", Breaks: "PIN-39", Rule: "PIN-R16", step: refund(user, apdu.RefUserPIN), commands: ins(apdu.InsVerify),
		Does: "Spends no try for a wrong user PIN in VERIFY.",
		Gain: "Any number of guesses at the user PIN.",
	},
	{
		Name: "wrong-so-pin-costs-nothing", Breaks: "PIN-74", Rule: "PIN-R61", step: refund(so, apdu.RefSOPIN), commands: ins(apdu.InsVerify),
		Does: "Spends no try for a wrong SO-PIN in VERIFY.",
		Gain: "Any number of guesses at the SO-PIN.",
	},
	{
		Name: "change-with-wrong-pin-costs-nothing", Breaks: "PIN-50", Rule: "PIN-R78", step: refund(user, apdu.RefUserPIN), commands: ins(apdu.InsChangeReferenceData),
		Does: "Spends no try for a wrong old user PIN in CHANGE REFERENCE DATA.",
		Gain: "Any number of guesses at the user PIN, past the counter of VERIFY.",
	},
	{
		Name: "change-with-wrong-so-pin-costs-nothing", Breaks: "PIN-59", Rule: "PIN-R95", step: refund(so, apdu.RefSOPIN), commands: ins(apdu.InsChangeReferenceData),
		Does: "Spends no try for a wrong old SO-PIN in CHANGE REFERENCE DATA.",
		Gain: "Any number of guesses at the SO-PIN.",
	},
	{
		Name: "unblock-with-wrong-so-pin-costs-nothing", Breaks: "PIN-66", Rule: "PIN-R131", step: refund(so, 0), commands: ins(apdu.InsResetRetryCounter),
		Does: "Spends no try for a wrong SO-PIN in RESET RETRY COUNTER.",
		Gain: "Any number of guesses at the SO-PIN.",
	},
	{
		Name: "initialise-with-wrong-so-pin-costs-nothing", Breaks: "PIN-14", Rule: "PIN-R171", step: refund(so, 0), commands: ins(apdu.InsInitializeDevice),
		Does: "Spends no try for a wrong SO-PIN in INITIALIZE DEVICE.",
		Gain: "Any number of guesses at the SO-PIN.",
	},
	{
		Name: "right-pin-keeps-counter", Breaks: "PIN-42", Rule: "PIN-R15", step: keepsCounter, commands: ins(apdu.InsVerify),
		Does: "Does not fill the counter of the user PIN after a right one.",
		Gain: "Nobody gains, but mistyped PINs add up over the years until the PIN is blocked.",
	},
	{
		Name: "shows-one-try-too-many", Breaks: "PIN-33", Rule: "PIN-R5", step: showsOneMore, commands: ins(apdu.InsVerify),
		Does: "Tells one try more than there is when asked for the status of the user PIN.",
		Gain: "The owner trusts a last try that blocks the PIN.",
	},
	{
		Name: "status-query-costs-a-try", Breaks: "PIN-34", Rule: "PIN-R9", step: queryCharges, commands: ins(apdu.InsVerify),
		Does: "Spends a try for the answer how many there are.",
		Gain: "Every program that only asks brings the PIN nearer to its block.",
	},
	{
		Name: "blocked-pin-logs-in", Breaks: "PIN-38", Rule: "PIN-R20", step: unblocked(user, apdu.RefUserPIN), commands: ins(apdu.InsVerify),
		Does: "Takes the right user PIN although it is blocked.",
		Gain: "Any number of guesses at the user PIN: the block is none.",
	},
	{
		Name: "blocked-so-pin-initialises", Breaks: "PIN-64", Rule: "PIN-R65", step: unblocked(so, 0), commands: ins(apdu.InsInitializeDevice),
		Does: "Takes the right SO-PIN in INITIALIZE DEVICE although it is blocked.",
		Gain: "Any number of guesses at the SO-PIN: the block is none.",
	},

	// Unblocking and changing.
	{
		Name: "unblocks-without-option", Breaks: "PIN-61", Rule: "PIN-R106", step: withOption(apdu.ConditionsNotSatisfied, pinstate.OptionResetEnabled, true), commands: ins(apdu.InsResetRetryCounter),
		Does: "Lets the SO-PIN reset the user PIN although the card was initialised without that option.",
		Gain: "The holder of the SO-PIN uses keys that were to be the user's alone.",
	},
	{
		Name: "sets-pin-where-counter-alone", Breaks: "PIN-63", Rule: "PIN-R111", step: withOption(apdu.ConditionsNotSatisfied, pinstate.OptionResetOnly, false), commands: ins(apdu.InsResetRetryCounter),
		Does: "Lets the SO-PIN set a new user PIN although the options let it reset the counter alone.",
		Gain: "The holder of the SO-PIN uses keys that were to be the user's alone.",
	},
	{
		Name: "unblock-keeps-counter", Breaks: "PIN-68", Rule: "PIN-R116", step: keepsCounter, commands: ins(apdu.InsResetRetryCounter),
		Does: "Answers that the user PIN is unblocked and leaves its counter as it was.",
		Gain: "Nobody gains; the owner is locked out and told otherwise.",
	},
	{
		Name: "unblock-logs-in", Breaks: "PIN-69", Rule: "PIN-R118", step: logsIn(apdu.RefUserPIN), commands: ins(apdu.InsResetRetryCounter),
		Does: "Logs the user in by RESET RETRY COUNTER.",
		Gain: "The holder of the SO-PIN uses the keys, also where it may reset the counter alone.",
	},
	{
		Name: "so-pin-logs-in", Breaks: "PIN-45", Rule: "PIN-R53", step: logsIn(apdu.RefSOPIN), commands: ins(apdu.InsVerify),
		Does: "Logs the user in by the SO-PIN.",
		Gain: "The holder of the SO-PIN uses the keys without a trace in the user PIN.",
	},
	{
		Name: "takes-shorter-pin", Breaks: "PIN-52", Rule: "PIN-R88", step: takesShortPIN, commands: ins(apdu.InsChangeReferenceData),
		Does: "Takes a new user PIN that is shorter than the one at INITIALIZE DEVICE.",
		Gain: "A PIN that is easier to guess than whoever set the card up has allowed.",
	},
	{
		Name: "takes-transport-pin-as-new", Breaks: "PIN-57", Rule: "PIN-R156", step: takesTransportPIN, commands: ins(apdu.InsChangeReferenceData),
		Does: "Takes the transport PIN for the new PIN.",
		Gain: "Whoever has sent the card knows the PIN that is in use.",
	},
	{
		Name: "transport-pin-logs-in", Breaks: "PIN-36", Rule: "PIN-R148", step: logsInWithTransportPIN, commands: ins(apdu.InsVerify),
		Does: "Logs in with the transport PIN before it is changed.",
		Gain: "Whoever has sent the card, or read its letter, uses it before its owner, who cannot tell.",
	},

	// Initialising.
	{
		Name: "erases-on-wrong-so-pin", Breaks: "PIN-14", Rule: "PIN-R173", step: erasesOnWrong, commands: ins(apdu.InsInitializeDevice),
		Does: "Erases keys and files by INITIALIZE DEVICE although the SO-PIN is wrong.",
		Gain: "Anybody with a minute at the card destroys its keys.",
	},
	{
		Name: "initialise-changes-device-key", Breaks: "PIN-16", Rule: "PIN-R194", step: changesDevice, commands: ins(apdu.InsInitializeDevice),
		Does: "Makes a new device key and certificate at INITIALIZE DEVICE.",
		Gain: "The identity of the card proves nothing: what was attested before cannot be tied to it.",
	},
	{
		Name: "initialise-keeps-keys", Breaks: "PIN-17", Rule: "PIN-R180", step: keepsKeys, commands: ins(apdu.InsInitializeDevice),
		Does: "Keeps the keys at INITIALIZE DEVICE.",
		Gain: "The holder of the SO-PIN gets the keys with a user PIN that they choose.",
	},

	// The login.
	{
		Name: "login-survives-select", Breaks: "PIN-55", Rule: "PIN-R221", step: keepsLogin(true), commands: ins(apdu.InsSelect),
		Does: "Keeps the login when the application is selected again.",
		Gain: "The next program uses the keys after the last one has logged out.",
	},
	{
		Name: "login-survives-reset", Breaks: "PIN-55", Rule: "PIN-R222", reset: keepsLoginOverReset, step: keepsLogin(false), commands: ins(apdu.InsSelect),
		Does: "Keeps the login over a reset and the selection that follows.",
		Gain: "Whoever moves the card to a reader of their own is logged in.",
	},
	{
		Name: "login-survives-wrong-pin", Breaks: "PIN-41", Rule: "PIN-R17", step: keepsLoginOnWrong, commands: ins(apdu.InsVerify, apdu.InsChangeReferenceData),
		Does: "Keeps the login after a wrong user PIN.",
		Gain: "A program that checks a PIN on a card in use lets the wrong person in.",
	},

	// Files.
	{
		Name: "reads-keys", Breaks: "FILE-4", Rule: "FILE-R1", step: readsKeys, commands: ins(apdu.InsReadBinary),
		Does: "Answers READ BINARY of a key with the key.",
		Gain: "The private keys, without a PIN.",
	},
	{
		Name: "reads-private-data", Breaks: "FILE-2", Rule: "ACCESS-R7", step: readsPrivate, commands: ins(apdu.InsReadBinary),
		Does: "Reads private data objects without a login.",
		Gain: "Everything that was meant to be private, without a PIN.",
	},
	{
		Name: "writes-without-login", Breaks: "FILE-5", Rule: "ACCESS-R1", step: asUser, commands: ins(apdu.InsUpdateBinary),
		Does: "Writes files without a login.",
		Gain: "Certificates and labels of somebody's choice on another's card.",
	},
	{
		Name: "deletes-without-login", Breaks: "FILE-5", Rule: "ACCESS-R5", step: asUser, commands: ins(apdu.InsDeleteFile),
		Does: "Deletes files and keys without a login.",
		Gain: "Anybody with a minute at the card destroys its keys.",
	},
	{
		Name: "lists-key-blob", Breaks: "FILE-39", Rule: "FILE-R26", step: listsBlob, commands: ins(apdu.InsEnumerateObjects),
		Does: "Lists EF 2F10 among the objects.",
		Gain: "Anybody learns that a wrapped key is waiting, and programs show an object that is none.",
	},

	// Keys.
	{
		Name: "signs-without-login", Breaks: "PIN-75", Rule: "ACCESS-R13", step: asUser, commands: ins(apdu.InsSign),
		Does: "Signs without a login.",
		Gain: "Signatures in the owner's name, without a PIN.",
	},
	{
		Name: "deciphers-without-login", Breaks: "PIN-75", Rule: "ACCESS-R15", step: asUser, commands: ins(apdu.InsDecipher),
		Does: "Decrypts and agrees on keys without a login.",
		Gain: "What was encrypted for the owner, without a PIN.",
	},
	{
		Name: "wraps-without-login", Breaks: "PIN-75", Rule: "ACCESS-R18", step: asUser, commands: ins(apdu.InsWrapKey),
		Does: "Wraps keys without a login.",
		Gain: "Custodians with the shares get every key without its user.",
	},
	{
		Name: "ignores-algorithm-list", Breaks: "KEY-5", Rule: "KEY-R3", step: ignoresList, commands: ins(apdu.InsSign),
		Does: "Signs with algorithms that the key's list does not name.",
		Gain: "A key for one purpose serves another, such as raw signatures of anything.",
	},
	{
		Name: "wraps-unwrappable-key", Breaks: "DOM-18", Rule: "DOM-R20", step: ignoresList, commands: ins(apdu.InsWrapKey),
		Does: "Wraps a key whose list of algorithms does not name wrapping.",
		Gain: "A key that was never to leave the card leaves it.",
	},
	{
		Name: "counts-no-uses", Breaks: "KEY-10", Rule: "KEY-R6", step: uncounted(false), commands: ins(apdu.InsSign, apdu.InsDecipher),
		Does: "Does not count the uses of a key that has a counter.",
		Gain: "More signatures than its owner has allowed.",
	},
	{
		Name: "counts-successes-alone", Breaks: "KEY-11", Rule: "KEY-R7", step: uncounted(true), commands: ins(apdu.InsSign, apdu.InsDecipher),
		Does: "Counts the use of a key when it has succeeded, and no other.",
		Gain: "Whoever can make the operation fail after it was begun uses the key without end.",
	},
	{
		Name: "attests-with-wrong-key", Breaks: "CVC-14", Rule: "CVC-R3", step: attestsWrongly, commands: ins(apdu.InsGenerateKeyPair),
		Does: "Countersigns the request of a new key with a key that is not the device's.",
		Gain: "Nothing proves where a key was made; whoever does not verify takes any key for one of the card.",
	},
	{
		Name: "repeats-challenge", Breaks: "PKA-20", Rule: "PKA-R25", step: repeatsChallenge, commands: ins(apdu.InsGetChallenge),
		Does: "Answers GET CHALLENGE with the same bytes each time.",
		Gain: "A recorded answer of a custodian logs in for ever, and random numbers from the card are known.",
	},

	// Wrapping.
	{
		Name: "first-share-is-enough", Breaks: "DOM-19", Rule: "DOM-R3", step: completesEarly, commands: ins(apdu.InsManageKeyDomain),
		Does: "Takes the first share of a DKEK for all of it.",
		Gain: "One custodian alone wraps keys and reads them.",
	},
	{
		Name: "unwraps-over-key", Breaks: "DOM-20", Rule: "DOM-R19", step: unwrapsOver, commands: ins(apdu.InsUnwrapKey),
		Does: "Unwraps a key in place of one that is there.",
		Gain: "A key of somebody's choice under the name of the owner's; the owner's is lost.",
	},

	// Public key authentication.
	{
		Name: "one-public-key-too-few", Breaks: "PKA-25", Rule: "PKA-R16", step: oneKeyTooFew, commands: ins(apdu.InsExternalAuthenticate),
		Does: "Logs in when all but one of the public keys needed have authenticated.",
		Gain: "One custodian fewer than agreed opens the card.",
	},
	{
		Name: "counts-public-key-twice", Breaks: "PKA-26", Rule: "PKA-R17", step: countsTwice, commands: ins(apdu.InsExternalAuthenticate),
		Does: "Counts a public key each time that it authenticates.",
		Gain: "One custodian alone opens a card that takes several.",
	},
	{
		Name: "challenge-can-be-answered-again", Breaks: "PKA-19", Rule: "PKA-R23", step: keepsChallenge, commands: ins(apdu.InsExternalAuthenticate),
		Does: "Keeps a challenge when enough public keys have answered it.",
		Gain: "A recorded answer logs in again.",
	},
	{
		Name: "pin-alone-where-keys-are-needed", Breaks: "PKA-22", Rule: "PKA-R36", step: onePINIsEnough, commands: ins(apdu.InsVerify),
		Does: "Logs in by the PIN alone although the options ask for public keys as well.",
		Gain: "Whoever has seen the PIN needs no custodian.",
	},
	{
		Name: "replaces-public-key-without-option", Breaks: "PKA-13", Rule: "PKA-R14", step: withOption(apdu.ConditionsNotSatisfied, pinstate.OptionReplaceKeys, true), commands: ins(apdu.InsManagePublicKeyAuthentication),
		Does: "Replaces a registered public key although the options do not allow it.",
		Gain: "Whoever is logged in once becomes a custodian.",
	},

	// The secure channel.
	{
		Name: "channel-login-outlives-channel", Breaks: "SM-25", Rule: "SM-R7", step: keepsChannelLogin,
		Does: "Takes plain commands after a secure channel was opened, with the login that was made in it.",
		Gain: "Whoever sits between reader and card uses the login of the program in the channel.",
	},
	{
		Name: "session-pin-without-channel", Breaks: "SM-36", Rule: "SM-R23", step: plainSessionPIN, commands: ins(apdu.InsGenerateSessionPIN),
		Does: "Gives a session PIN without a secure channel.",
		Gain: "Whoever listens between reader and card reads a PIN that works.",
	},
	{
		Name: "session-pin-without-option", Breaks: "SM-37", Rule: "SM-R22", step: withOption(apdu.InstructionNotSupported, pinstate.OptionSessionPIN, true), commands: ins(apdu.InsGenerateSessionPIN),
		Does: "Gives a session PIN although the card was initialised without that option.",
		Gain: "A second PIN that its owner has not allowed.",
	},
}
