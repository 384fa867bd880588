/* The refresh protocol of broker/service/refresher.py, for one install.
 *
 * Read it beside the theory of operation there: the labels JOIN, CLAIM, CALL, KEEP are its steps. Chosen outside, by -D:
 *   REPLICAS ATTEMPTS FAULTS   how many processes, attempts of each, and faults in all
 *   ROTATION                   0 none, 1 grace, 2 strict, 3 family revoked      (docs/concepts.md)
 *   MINT_INVALIDATES           1: a mint ends every pair before it
 *   FAILOVER                   1: the database may once go back to an earlier state
 *   NO_INTENT NO_FENCE NO_CLAIM_ID NO_DOUBTED_ATTEMPT PRESENT_IN_DOUBT   a broken protocol each
 *
 * Promises: P1 stands in send(), P2 in the last process, End.
 */

#ifndef REPLICAS
#define REPLICAS 2
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 2
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#ifndef ROTATION
#define ROTATION 2
#endif
#ifndef MINT_INVALIDATES
#define MINT_INVALIDATES 0
#endif
#ifndef FAILOVER
#define FAILOVER 0
#endif

#define PAIRS 12        /* more than can be issued; 0 is none */
#define REQUESTS 4      /* on their way to Envoy at once, their senders gone or not */
#define NOBODY 255

/* ---- The install's row. ------------------------------------------------------------------------------------- */
typedef Row {
    byte generation;
    byte attempt;           /* number of the newest attempt, and its random id */
    byte claim_id;
    byte stored_attempt;    /* of the attempt that stored: the fence, and its id */
    byte stored_claim_id;
    byte pair;              /* what is stored: an access token with its refresh token */
    bool in_doubt;
    byte doubted_attempt;   /* up to here no attempt may end the doubt: an older one's pair came in between */
    bool claimed;           /* the claim has not ended yet */
    byte holder             /* whose it is */
};
Row row;
Row standby;                /* what a standby has: some earlier state */
bool is_restored = false;   /* the database has gone back, and no claim since then has stored */
byte next_claim_id = 1;

/* ---- What the steady clock of each process says. ------------------------------------------------------------- */
bool may_send[REPLICAS];    /* its claim still stands: cleared before anybody may take the next one */
bool in_call[REPLICAS];     /* a call ends before its claim does, so a claim can't end under a call … */
bool is_forgotten[REPLICAS];    /* its claim is from before the database went back */
bool stopped[REPLICAS];     /* … unless the process was stopped (SIGSTOP, a long pause) */

/* ---- Envoy. ------------------------------------------------------------------------------------------------- */
bool used[PAIRS];           /* the refresh token has bought another pair */
bool dead[PAIRS];           /* revoked, or ended by a mint */
byte issued = 0;

/* A request: on its way, then answered. Its sender may have given up long before. */
mtype = { FREE, SENT, GRANTED, REFUSED };
typedef Request {
    mtype state = FREE;
    byte presents;          /* the pair whose refresh token it presents; 0: a mint */
    byte answer;            /* the pair granted */
    bool abandoned          /* nobody waits for the answer */
};
Request request[REQUESTS];

/* ---- The judge's ledger. ------------------------------------------------------------------------------------ */
byte in_flight[PAIRS];      /* presentations whose sender still waits */
bool unknown[PAIRS];        /* presented once, and nobody knows the outcome */
bool acted_late = false;    /* Envoy has issued a pair that died with a sender whose claim was lost: nobody was told */
byte faults = FAULTS;
byte finished = 0;

inline fault() { faults > 0; faults-- }

inline end_all_pairs() {
    i = 1;
    do
    :: i < PAIRS -> dead[i] = true; i++
    :: else -> break
    od
}

/* Envoy acts on a request, whenever that is. */
inline act(r) {
    if
    :: request[r].presents == 0 ->
        grants = true;
        if
        :: MINT_INVALIDATES -> end_all_pairs()
        :: else
        fi
    :: else ->
        grants = !dead[request[r].presents];
        if
        :: grants && used[request[r].presents] ->
            if
            :: ROTATION == 0
            :: ROTATION == 1                       /* still within its grace … */
            :: ROTATION == 1 -> grants = false     /* … or past it */
            :: ROTATION == 2 -> grants = false
            :: ROTATION == 3 -> grants = false; end_all_pairs()
            fi
        :: else
        fi;
        if
        :: grants -> used[request[r].presents] = true
        :: else
        fi
    fi;
    if
    :: grants ->
        issued++; assert(issued < PAIRS);
        dead[issued] = false; request[r].answer = issued; request[r].state = GRANTED
    :: else -> request[r].state = REFUSED
    fi;
    if
    :: request[r].abandoned -> acted_late = true; clear(r)
    :: else
    fi;
    i = 0; grants = false
}

inline clear(r) {
    request[r].state = FREE; request[r].presents = 0; request[r].answer = 0; request[r].abandoned = false
}

active proctype Envoy() {
    byte i;
    bool grants;
end:
    do
    :: atomic { request[0].state == SENT -> act(0) }
    :: atomic { request[1].state == SENT -> act(1) }
    :: atomic { request[2].state == SENT -> act(2) }
    :: atomic { request[3].state == SENT -> act(3) }
    od
}

/* ---- The database goes back to what a standby had. ---------------------------------------------------------- */
inline copy(to, from) {
    to.generation = from.generation; to.attempt = from.attempt; to.claim_id = from.claim_id;
    to.stored_attempt = from.stored_attempt; to.stored_claim_id = from.stored_claim_id; to.pair = from.pair;
    to.in_doubt = from.in_doubt; to.claimed = from.claimed; to.holder = from.holder; to.doubted_attempt = from.doubted_attempt
}

#if FAILOVER
active proctype Database() {
    byte i;
    atomic { copy(standby, row) };      /* at any moment … */
    atomic {                            /* … and any later one */
        copy(row, standby); is_restored = true;
        /* What is forgotten can't be known: P1 begins anew, for claims that were taken since. */
        i = 0;
        do
        :: i < PAIRS -> unknown[i] = false; in_flight[i] = 0; i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < REPLICAS -> is_forgotten[i] = true; i++
        :: else -> break
        od;
        i = 0
    }
}
#endif

/* ---- A process of the broker. ------------------------------------------------------------------------------- */
#define MY request[mine]
#define IS_MINE (row.claim_id == claim_id && row.attempt == attempt)

inline landed(pair) {
    if
    :: pair != 0 && !is_forgotten[me] -> in_flight[pair]--
    :: else
    fi
}

/* P1, at the moment of sending. */
inline send(pair) {
    if
    :: is_forgotten[me] -> acted_late = true
    :: pair != 0 && !is_forgotten[me] -> assert(in_flight[pair] == 0); assert(!unknown[pair]); in_flight[pair]++
    :: else
    fi;
    if
    :: request[0].state == FREE -> mine = 0
    :: request[0].state != FREE && request[1].state == FREE -> mine = 1
    :: request[0].state != FREE && request[1].state != FREE && request[2].state == FREE -> mine = 2
    :: else -> mine = 3; assert(request[3].state == FREE)
    fi;
    MY.presents = pair; MY.state = SENT; in_call[me] = true
}

inline take_answer() {
    got = MY.answer; landed(MY.presents); clear(mine); mine = NOBODY; in_call[me] = false
}

/* Nobody waits for the answer any more, and what was presented may have been spent. */
inline give_up() {
    if
    :: MY.presents != 0 && !is_forgotten[me] -> landed(MY.presents); unknown[MY.presents] = true
    :: else
    fi;
    if
    :: MY.state == SENT -> MY.abandoned = true
    :: else -> acted_late = true; clear(mine)
    fi;
    mine = NOBODY; in_call[me] = false
}

inline take_claim() {
    left--;
    was_in_doubt = row.in_doubt;
    row.attempt++; attempt = row.attempt;
    row.claim_id = next_claim_id; claim_id = next_claim_id; next_claim_id++;
    row.claimed = true; row.holder = me; may_send[me] = true;
    stopped[me] = false; is_forgotten[me] = false;
#ifndef NO_INTENT
    row.in_doubt = true;
#endif
    if
    :: row.generation < seen -> generation = seen; present = 0      /* the database has forgotten: mint */
    :: else ->
        generation = row.generation; present = row.pair;
#ifndef PRESENT_IN_DOUBT
        if
        :: was_in_doubt -> present = 0
        :: else
        fi
#endif
    fi;
    must_mint = was_in_doubt
}

/* The end of the claim, by time. Its holder knows that before, and sends nothing more. */
inline end_claim() {
    may_send[row.holder] = false; row.claimed = false
}

inline resolve(doubt) {
    if
    :: IS_MINE -> row.in_doubt = (doubt || row.doubted_attempt >= attempt); row.claimed = false
    :: else
    fi
}

inline store_pair() {
    if
    :: row.generation > generation -> row.generation = row.generation + 1
    :: else -> row.generation = generation + 1
    fi;
    row.pair = got; row.stored_attempt = attempt; row.stored_claim_id = claim_id; is_restored = (is_restored && is_forgotten[me]);
    if
#ifdef NO_FENCE
    :: true -> row.in_doubt = false; row.claimed = false
#endif
#ifdef NO_CLAIM_ID
    :: row.attempt == attempt -> row.in_doubt = false; row.claimed = false
#endif
#ifdef NO_DOUBTED_ATTEMPT
    :: IS_MINE -> row.in_doubt = false; row.claimed = false
#endif
    :: IS_MINE -> row.in_doubt = (row.doubted_attempt >= attempt); row.claimed = false
    :: else ->
        row.in_doubt = true;
        if
        :: row.attempt < attempt -> row.attempt = attempt
        :: else
        fi;
        row.doubted_attempt = row.attempt
    fi
}

inline keep() {
    if
#ifdef NO_FENCE
    :: true -> store_pair()
#else
    :: row.stored_attempt < attempt -> store_pair()
#ifdef NO_CLAIM_ID
    :: row.stored_attempt == attempt -> skip
    :: row.stored_attempt > attempt -> row.in_doubt = true
#else
    :: row.stored_attempt >= attempt && row.stored_claim_id == claim_id -> skip         /* it was stored before */
    :: row.stored_attempt >= attempt && row.stored_claim_id != claim_id ->
        row.in_doubt = true; row.doubted_attempt = row.attempt      /* which of the two pairs is the newer nobody knows */
#endif
#endif
    fi;
    /* P2: no issued pair is dropped without the next attempt knowing that one was. */
    assert(row.pair == got || row.in_doubt);
    seen = (row.generation > seen -> row.generation : seen)
}

proctype Replica(byte me) {
    byte left = ATTEMPTS;       /* JOIN: one task at a time, however many callers */
    byte seen = 1;              /* the newest generation that this process knows: lost when it is killed */
    byte attempt, claim_id, generation, present, got;
    byte mine = NOBODY;
    bool was_in_doubt, must_mint;

JOIN:
    if
    :: left == 0 -> goto DONE
    :: left > 0
    fi;

CLAIM:
    atomic {
        if
        :: row.generation > seen -> seen = row.generation; left--; goto JOIN            /* another was faster: adopt */
        :: row.generation <= seen && !row.claimed -> take_claim()
        :: row.generation <= seen && row.claimed && (!in_call[row.holder] || stopped[row.holder]) ->
            end_claim(); goto CLAIM
        fi
    };
    if
    :: true
    :: atomic { fault(); goto LOST }                    /* committed, and nobody knows; or killed */
    fi;

CALL:
    if
    :: atomic { may_send[me] -> send(present) }
    :: atomic { !may_send[me] -> resolve(must_mint); goto JOIN }
    :: atomic { fault(); goto LOST }                    /* killed */
    :: atomic { fault(); resolve(must_mint); goto JOIN }        /* not sent: no connection, or a 429 */
    fi;

WAIT:
    if
    :: atomic { MY.state == GRANTED -> take_answer(); goto KEEP }
    :: atomic { MY.state == REFUSED && present == 0 -> take_answer(); resolve(true); goto JOIN }
    :: atomic { MY.state == REFUSED && present != 0 ->
            take_answer();
            if
            :: row.generation != generation || row.attempt != attempt -> resolve(must_mint); goto JOIN
            :: else -> must_mint = true; present = 0; goto CALL         /* one mint within the attempt */
            fi }
    :: atomic { fault(); give_up(); resolve(true); goto JOIN }          /* no answer, a 5xx, a broken one */
    :: atomic { fault(); give_up(); goto LOST }                         /* killed */
    :: atomic { faults > 0 && !stopped[me] -> faults--; stopped[me] = true; goto WAIT }        /* stopped, perhaps past the claim's end */
    :: atomic { stopped[me] && !may_send[me] -> give_up(); resolve(true); goto JOIN }   /* goes on, and it is too late */
    fi;

KEEP:
    if
    :: atomic { keep() }
    :: atomic { fault(); keep(); goto KEEP }            /* committed, and nobody knows: once more */
    :: atomic { fault(); acted_late = (acted_late || !may_send[me]); goto LOST }        /* killed, or given up */
    fi;
    goto JOIN;

LOST:
    atomic { seen = 1; mine = NOBODY; got = 0; goto JOIN };

DONE:
    finished++
}

#define ENDS_OTHERS (MINT_INVALIDATES || ROTATION == 3)
#define MAY_BE_DEAD (ENDS_OTHERS && (acted_late || FAILOVER))

/* P2. All faults are over, and nothing is under way: what stands there? */
active proctype End() {
    byte me = 0, left = 1, seen, attempt, claim_id, generation, present, got;
    byte mine = NOBODY;
    bool was_in_doubt, must_mint;
    byte i;

    (finished == REPLICAS && request[0].state == FREE && request[1].state == FREE
        && request[2].state == FREE && request[3].state == FREE);
    atomic {
        /* A dead pair may stand there unseen only if Envoy acted for a sender that was gone, and a mint ends what was
         * before; or if the database went back: then what stands there may be older than what a mint has ended since.
         * A caller's report mends both. */
        assert(!dead[row.pair] || row.in_doubt || is_restored || MAY_BE_DEAD);
        seen = row.generation;
        take_claim();
        /* One clean attempt: present, and mint if that is refused. */
        if
        :: present != 0 && !dead[present] && (!used[present] || ROTATION == 0) -> used[present] = true
        :: else ->
            if
            :: MINT_INVALIDATES -> end_all_pairs()
            :: else
            fi
        fi;
        issued++; assert(issued < PAIRS); dead[issued] = false; got = issued;
        keep();
        assert(row.pair == got && !dead[row.pair] && !row.in_doubt)
    }
}

init {
    byte i = 0;
    atomic {
        issued = 1; row.pair = 1; row.generation = 1; row.attempt = 1; row.stored_attempt = 1;
        copy(standby, row);
        do
        :: i < REPLICAS -> run Replica(i); i++
        :: else -> break
        od
    }
}
