/** What the built-in model can draw, in groups for people; every name of its vocabulary stands in one. */

const list = (names: string) => names.split(',').map((name) => name.trim().replace(/\s+/g, ' '));

export const GROUPS: Record<string, readonly string[]> = {
  Animals: list(`
    tiger face, dog face, cat face, panda, bear, rabbit face, frog, pig face, fox, lion, penguin, owl, baby chick, butterfly, octopus,
    T-Rex, tropical fish, hatching chick, parrot, flamingo, honeybee, ladybug, snail, turtle, dolphin, crab, elephant, giraffe, koala,
    shark, mouse face, cow face, hamster, wolf, raccoon, polar bear, horse face, duck, swan, peacock, fish, blowfish, sauropod, zebra,
    horse, kangaroo, rooster, eagle, bat, monkey, squirrel, crocodile, whale, snake, sheep, leopard, black cat, caterpillar, ant,
    bird, camel, spider, scorpion, deer, gorilla, lizard, rhinoceros, hedgehog, grasshopper, llama, hippopotamus, dodo, sloth, otter,
    skunk, beaver, bison, seal, beetle, cat with heart eyes, see-no-evil monkey, shrimp`),
  Faces: list(`
    grinning face, face with tears of joy, face with heart eyes, face with sunglasses, crying face, angry face, sleeping face,
    star-struck face, partying face, winking face, thinking face, nerd face, angel face, freezing face, hot face, sick face, kissing
    face, zany face, exploding head, money face, silly face, yummy face, scared face, surprised face, dizzy face, face upside down,
    face rolling its eyes, zipper-mouth face, hugging face, face rolling with laughter, drooling face, lying face, sneezing face,
    shushing face, swearing face, smiling face with hearts, yawning face, disguised face, pleading face`),
  'People and creatures': list(`
    clown, devil, robot, alien, ghost, skull, cowboy, space invader, ogre, santa claus, snowboarder, surfer, swimmer, weightlifter,
    skier, basketball player, cyclist, juggler, dancer, disco dancer, astronaut, wizard, vampire, mermaid, zombie, ninja, detective,
    pair of eyes, mouth, waving hand, thumbs up, pair of clapping hands, brain, dragon, unicorn, snowman`),
  'Vehicles and travel': list(`
    rocket, helicopter, bus, fire engine, taxi, car, sailboat, airplane, flying saucer, locomotive, tractor, ship, ambulance, police
    car, jeep, small airplane, motorcycle, parachute, roller skate, tram, truck, rickshaw, canoe, airplane seat, ferris wheel, roller
    coaster`),
  'Sky and nature': list(`
    sun with a face, star, rainbow, fire, full moon with a face, storm cloud, planet, crescent moon, glowing star, rain cloud, water
    drop, wave, tornado, lightning bolt, shooting star, comet, wilted flower, Christmas tree, pumpkin`),
  Hearts: list(`
    red heart, broken heart, growing heart, sparkling heart, heart on fire, blue heart, love letter, heart with an arrow`),
  Things: list(`
    pile of poo, cup of coffee, birthday cake, teddy bear, umbrella, alarm clock, beer mug, cocktail, crystal ball, hourglass, bomb,
    party popper, camera, tropical drink, champagne, glass of whiskey, musical note, barber pole, telephone, clock, stopwatch,
    calendar, compass, bone`),
};
