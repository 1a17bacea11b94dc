/** Lists of the words of a union. A word missing here does not compile: each list must cover its union. */
export const listOf =
  <T extends string>() =>
  <const U extends readonly T[]>(...values: U & ([T] extends [U[number]] ? unknown : never)): U =>
    values;
