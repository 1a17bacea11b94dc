/** Path of the method that repeats a build; daemon and client share it. */
export const REPRODUCE_METHOD = '/cooper.v1.Checks/Reproduce';
