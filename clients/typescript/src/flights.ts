/** Flights: work that one does and any number wait for. At most one a key. */
export class Flights<T> {
  readonly #flights = new Map<string, Promise<T>>();

  /**
   * The flight of this key; a new one that does `work` if there is none.
   *
   * `isCurrent` says whether whoever asks now would wait for it, too: not once it was left behind.
   */
  join(key: string, work: (isCurrent: () => boolean) => Promise<T>): Promise<T> {
    const under = this.#flights.get(key);
    if (under !== undefined) return under;
    const isCurrent = () => this.#flights.get(key) === flight;
    const flight: Promise<T> = work(isCurrent).finally(() => {
      if (isCurrent()) this.#flights.delete(key);
    });
    flight.catch(() => undefined); // Nobody may wait for it; whoever does is told.
    this.#flights.set(key, flight);
    return flight;
  }

  /** Who comes from now on begins another; this one goes on for those who wait. */
  leaveBehind(key: string): void {
    this.#flights.delete(key);
  }

  /** Likewise, of every key. */
  leaveAllBehind(): void {
    this.#flights.clear();
  }
}
